import {
  type AttestationMode,
  bootInfo,
  type VerifiedAttestation,
  verifyAttestation,
  verifyOsImage,
} from '@dstack-cloud/attestation';
import { createPlatform } from '@dstack-cloud/tee-simulator';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { expect, test } from 'vitest';
import { EVIDENCE, MODES_NOW, modesTrust } from '../test/mode-evidence.ts';
import { VerifiedEvidence } from './verified-evidence.ts';
import { workloadOf } from './workload-of.ts';

describeWithFixtures('evidence that is kept', 'mock-evidence/expected.json', () => {
  async function verified(mode: AttestationMode): Promise<VerifiedAttestation> {
    const { roots, collateral } = modesTrust(createPlatform(new Uint8Array(32).fill(5)));
    const { attestation } = EVIDENCE[mode]()(new Uint8Array(64).fill(7));
    const platform = { gcpFirmwareEndorsement: 'vendor' } as const;
    return verifyAttestation(attestation, { roots, collateral, now: MODES_NOW, platform });
  }

  test.each(Object.keys(EVIDENCE) as AttestationMode[])(
    '%s: is what it was, without its checks',
    async (mode) => {
      const whole = await verified(mode);
      const packed = new VerifiedEvidence(whole).pack();
      expect(packed.pack().verified()).toEqual({ ...whole, checks: [] });
      expect([packed.mode, packed.validUntil, packed.workload]).toEqual([
        mode,
        whole.validUntil,
        workloadOf(whole),
      ]);
      for (const bootTime of [false, true]) {
        expect(bootInfo(packed.verified(), { bootTime })).toEqual(bootInfo(whole, { bootTime }));
      }
      expect((await verifyOsImage(packed.verified())).osImageHash).toEqual(
        (await verifyOsImage(whole)).osImageHash,
      );
    },
  );

  test('takes the configuration of a request, and all the rest from the evidence', async () => {
    const whole = await verified('dstack-tdx');
    const evidence = new VerifiedEvidence(whole).pack();
    const text = JSON.stringify({ os_image_hash: 'ab'.repeat(32) });
    const configured = evidence.withConfig(text);
    expect(configured.verified()).toEqual({ ...whole, checks: [], config: text });
    expect(configured.bootInfo(false)).toEqual(bootInfo({ ...whole, config: text }, { bootTime: false }));
    expect(evidence.verified().config).toBe(whole.config);
    expect(evidence.withConfig('').bootInfo(false)).toEqual(bootInfo(whole, { bootTime: false }));
  });

  test('remembers with a configuration what was derived with it, and nothing of what was merely sent', async () => {
    const evidence = new VerifiedEvidence(await verified('dstack-tdx'));
    const text = JSON.stringify({ os_image_hash: 'ab'.repeat(32) });
    const configured = evidence.withConfig(text);
    configured.isImageChecked = true;
    expect(evidence.withConfig(text)).not.toBe(configured);
    expect(evidence.withConfig(text).isImageChecked).toBe(false);
    evidence.keepConfig(configured);
    expect(evidence.withConfig(text)).toBe(configured);
    expect(configured.bootInfo(false)).toBe(configured.bootInfo(false));
    expect(evidence.withConfig(`${text} `).isImageChecked).toBe(false);
    expect(evidence.withConfig('').isImageChecked).toBe(false);
    // A long one is no reason to hold memory for ten minutes.
    const long = evidence.withConfig(`${text}${' '.repeat(20_000)}`);
    evidence.keepConfig(long);
    expect(evidence.withConfig(long.vmConfig)).not.toBe(long);
    evidence.keepConfig(evidence.withConfig(''));
    expect(evidence.withConfig(text)).toBe(configured);
  });

  test('an identity has memory of its own, and no more than it needs', async () => {
    const packed = new VerifiedEvidence(await verified('dstack-tdx')).pack();
    const { appId, mrSystem, deviceId } = packed.withConfig('').bootInfo(false);
    expect(appId.buffer).toBe(mrSystem.buffer);
    expect(deviceId.buffer).toBe(mrSystem.buffer);
    expect(mrSystem.buffer.byteLength).toBeLessThan(512);
  });
});
