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
import { compactVerification } from './compact-verification.ts';
import { keepRequestConfig, withRequestConfig } from './config-text.ts';

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
      const kept = compactVerification(whole);
      // Another one in between: the values must not come from the one that was asked last.
      const other = compactVerification(
        await verified(mode === 'dstack-tdx' ? 'dstack-amd-sev-snp' : 'dstack-tdx'),
      );
      const names = Object.keys(whole) as (keyof VerifiedAttestation)[];
      for (const name of names.filter((each) => each !== 'checks' && each !== 'attestation')) {
        void other.evidence;
        expect(kept[name], name).toEqual(whole[name]);
      }
      for (const name of Object.keys(whole.attestation) as (keyof VerifiedAttestation['attestation'])[]) {
        void other.attestation.quote;
        expect(kept.attestation[name], name).toEqual(whole.attestation[name]);
      }
      expect(kept.checks).toEqual([]);
      for (const bootTime of [false, true]) {
        expect(bootInfo(kept, { bootTime })).toEqual(bootInfo(whole, { bootTime }));
      }
      expect((await verifyOsImage(kept)).osImageHash).toEqual((await verifyOsImage(whole)).osImageHash);
    },
  );

  test('takes the configuration of a request, and all the rest from the evidence', async () => {
    const whole = await verified('dstack-tdx');
    const kept = compactVerification(whole);
    const text = JSON.stringify({ os_image_hash: 'ab'.repeat(32) });
    const configured = withRequestConfig(kept, text);
    expect(configured.config).toBe(text);
    expect(configured.evidence).toEqual(whole.evidence);
    expect(configured.mode).toBe('dstack-tdx');
    expect(withRequestConfig(kept, text)).not.toBe(configured);
    keepRequestConfig(kept, configured);
    expect(withRequestConfig(kept, text)).toBe(configured);
    // A long one is no reason to hold memory for ten minutes.
    const long = withRequestConfig(kept, `${text}${' '.repeat(20_000)}`);
    keepRequestConfig(kept, long);
    expect(withRequestConfig(kept, long.config)).not.toBe(long);
    expect(kept.config).toBe(whole.config);
    expect(bootInfo(configured, { bootTime: false })).toEqual(
      bootInfo({ ...whole, config: text }, { bootTime: false }),
    );
  });

  test('can be judged and kept again', async () => {
    const whole = await verified('dstack-gcp-tdx');
    const again = compactVerification({ ...whole, attestation: compactVerification(whole).attestation });
    void compactVerification(await verified('dstack-tdx'));
    expect(again.attestation.quote).toEqual(whole.attestation.quote);
    expect(again.attestation.reportData).toEqual(whole.attestation.reportData);
    expect(again.attestation.config).toBe(whole.attestation.config);
  });

  test('an identity has memory of its own, and no more than it needs', async () => {
    const { appId, mrSystem, deviceId } = bootInfo(compactVerification(await verified('dstack-tdx')), {
      bootTime: false,
    });
    expect(appId.buffer).toBe(mrSystem.buffer);
    expect(deviceId.buffer).toBe(mrSystem.buffer);
    expect(mrSystem.buffer.byteLength).toBeLessThan(512);
  });
});
