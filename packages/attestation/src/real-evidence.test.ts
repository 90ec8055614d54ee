import { decodePem, fromHex, toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import { defaultCrypto } from '#crypto';
import {
  type Attestation,
  AttestationError,
  attestationFromQuote,
  bootInfo,
  type CollateralSource,
  decodeAttestation,
  parseTdxQuote,
  parseTpmsAttest,
  replaceRoot,
  snpResult,
  vendorRoots,
  verifyAttestation,
  verifyContext,
  verifyNitroDocument,
  verifyOsImage,
  verifySnpReport,
} from './index.ts';
import { readImageConfig } from './measurements/image/image-config.ts';
import { requireTdxImage } from './measurements/image/tdx-image.ts';

const DIR = 'attestation';
const NOTHING: CollateralSource = {
  tdx: () => Promise.reject(new AttestationError('collateral-unavailable', 'none stored')),
};

describeWithFixtures('real evidence of every platform', `${DIR}/expected.json`, () => {
  const { files } = fixtureJson<{ files: Record<string, { nitro: Record<string, unknown>; attest: never }> }>(
    `${DIR}/expected.json`,
  );

  it('accepts a Nitro enclave, and computes the image hash from raw PCRs', async () => {
    const attestation = decodeAttestation(fixture(`${DIR}/dstack/nitro-attestation-v0.bin`));
    const options = { roots: vendorRoots(), collateral: NOTHING, now: 1766678719 };
    const verified = await verifyAttestation(attestation, options);
    expect(verified.simulated).toBe(false);
    expect(verified.tcbStatus).toBe('');
    const expected = files['dstack/nitro-attestation-v0.bin']!.nitro;
    const { osImageHash } = await verifyOsImage(verified);
    expect(toHex(osImageHash)).toBe(expected['os_image_hash']);
    const info = bootInfo(verified, { bootTime: false });
    expect(toHex(info.mrAggregated)).toBe(expected['mr_aggregated']);
    expect(toHex(info.deviceId)).toBe(expected['device_id_original_bug']);
    expect(toHex(info.hostId!)).toBe(expected['device_id_intended']);
    expect(toHex(verified.registers['pcr4']!)).toBe((expected['pcrs'] as Record<string, string>)['4']);
  });

  it.each([
    ['stale', 1766678659 + 301, 'expired'],
    ['from the future', 1766678659 - 301, 'not-yet-valid'],
    ['with an expired leaf', 1766689460, 'expired'],
  ])('refuses a Nitro document %s', async (_name, now, code) => {
    const attestation = decodeAttestation(fixture(`${DIR}/dstack/nitro-attestation-v0.bin`));
    await expect(
      verifyAttestation(attestation, { roots: vendorRoots(), collateral: NOTHING, now }),
    ).rejects.toMatchObject({ code });
  });

  it('refuses a debug enclave, unless dangerously told not to', async () => {
    const attestation = decodeAttestation(fixture(`${DIR}/dstack/nitro-attestation-v0-debug.bin`));
    const options = { roots: vendorRoots(), collateral: NOTHING, now: 1766650906 };
    await expect(verifyAttestation(attestation, options)).rejects.toMatchObject({ code: 'debug' });
    const verified = await verifyAttestation(attestation, {
      ...options,
      platform: { dangerouslyAllowDebugEnclave: true },
    });
    // Its config holds the hash of zeros, while the image hash of a debug enclave is 32 zeros by definition.
    await expect(verifyOsImage(verified)).rejects.toMatchObject({ code: 'image' });
  });

  it('accepts bare documents of an enclave and of a NitroTPM', async () => {
    const judge = (document: Uint8Array, kind: 'nsm' | 'nitro-tpm', now: number) =>
      verifyNitroDocument(document, kind, verifyContext({ roots: vendorRoots(), collateral: NOTHING, now }));
    const bare = await judge(fixture(`${DIR}/nitro/evervault-valid.cose`), 'nsm', 1665651542);
    expect(bare.document.moduleId).toBe('i-020b6af9246d90e92-enc0183d09086c24190');
    const json = fixtureJson<{ attestation: { nitro: { document: string } } }>(
      `${DIR}/nitro/nitrotpm-attestation.json`,
    );
    const tpm = await judge(fromHex(json.attestation.nitro.document), 'nitro-tpm', 1770113582);
    expect(tpm.document.pcrs.size).toBe(24);
  });

  it('accepts an SEV-SNP report under the ARK of Milan, OutOfDate, for its chip and TCB alone', async () => {
    const attestation = decodeAttestation(fixture(`${DIR}/dstack/sev-snp-attestation-v0.bin`));
    const { report, mrConfig } = attestation.quote as Extract<
      Attestation['quote'],
      { mode: 'dstack-amd-sev-snp' }
    >;
    const chain = [fixture(`${DIR}/dstack/sev-snp-ask.pem`), fixture(`${DIR}/dstack/sev-snp-vcek.pem`)];
    const context = () => verifyContext({ roots: vendorRoots(), collateral: NOTHING, now: 1785000000 });
    const verified = await verifySnpReport(report, chain, context());
    expect(verified.product).toBe('Milan');
    expect(snpResult(verified.report, mrConfig, verified).tcbStatus).toBe('OutOfDate');
    const early = verifyContext({ roots: vendorRoots(), collateral: NOTHING, now: 1781658303 });
    await expect(verifySnpReport(report, chain, early)).rejects.toMatchObject({ code: 'not-yet-valid' });
    const source: CollateralSource = { ...NOTHING, snp: async () => ({ ask: chain[0]!, vcek: chain[1]! }) };
    const whole = await verifyAttestation(attestation, {
      roots: vendorRoots(),
      collateral: source,
      now: 1785000000,
    });
    expect(whole.reportData).toEqual(attestation.reportData);
    // The older form of the measurement document is refused.
    await expect(verifyOsImage(whole)).rejects.toMatchObject({ code: 'image' });
  });

  it('recomputes MRTD and RTMR0 to 2 of a real TDX-lite boot', () => {
    const json = fixtureJson<{ quote: string; event_log: string; vm_config: string }>(
      `${DIR}/dstack/tdx-lite-getquote.json`,
    );
    const attestation = attestationFromQuote(fromHex(json.quote), json.event_log, json.vm_config);
    const { eventLog } = attestation.quote as Extract<Attestation['quote'], { mode: 'dstack-tdx' }>;
    const { td } = parseTdxQuote(fromHex(json.quote));
    const judge = (config: string) =>
      requireTdxImage(td!, eventLog, readImageConfig(config, undefined), defaultCrypto);
    judge(json.vm_config);
    const changed = (member: string, value: unknown): string =>
      JSON.stringify({ ...(JSON.parse(json.vm_config) as object), [member]: value });
    expect(() => judge(changed('memory_size', 4294967296))).toThrow(/RTMR0 mismatch/);
    expect(() => judge(changed('qemu_version', '9.1.0'))).toThrow(/MRTD mismatch/);
    expect(() => judge(changed('qemu_single_pass_add_pages', false))).toThrow(/MRTD mismatch/);
    expect(() => judge(changed('tdx_attestation_variant', 'legacy'))).toThrow(/can be recomputed/);
    expect(() => judge(changed('ovmf_variant', 'other'))).toThrow(/ovmf_variant/);
    expect(() => judge(changed('memory_size', 1e9))).toThrow(/memory_size/);
  });

  it('reads a bare TPMS_ATTEST', () => {
    const attest = parseTpmsAttest(fixture(`${DIR}/tpm/tpm-quote-attest-sample.bin`));
    const expected = files['tpm/tpm-quote-attest-sample.bin']!.attest as Record<string, unknown>;
    expect(toHex(attest.extraData)).toBe(expected['extra_data']);
    expect(Number(attest.clock)).toBe(expected['clock']);
    expect(attest.firmwareVersion.toString(16)).toBe(expected['firmware_version']);
    expect(attest.selections).toEqual([{ algorithm: 0x0b, pcrs: [0, 1, 2] }]);
    expect(toHex(attest.pcrDigest)).toBe(expected['pcr_digest']);
  });

  it.each([
    ['gcp-tdx-bad-qualifying', 'tpm.qualifying-data'],
    ['gcp-tdx-bad-pcr14', 'tpm.pcr14'],
    ['gcp-tdx-bad-eventlog', 'tpm.replay-pcr2'],
    ['gcp-tdx-bad-sig', 'tpm.signature'],
    ['gcp-tdx-extra-pcr2-event', 'image.pcr2-sequence'],
    ['gcp-tdx-missing-pcr0', 'tpm.required-pcrs'],
    ['gcp-tdx-wrong-os-image-hash', 'image.gcp-tdx'],
    ['gcp-tdx-attestation-v0', 'tdx.collateral'],
  ])('judges the vTPM of %s although the TDX collateral is missing: %s', async (name, check) => {
    const root = decodePem(fixtureText(`${DIR}/synthetic/test-tpm-root.pem`), 'CERTIFICATE');
    const certChainPem = fixtureText(`${DIR}/synthetic/test-tpm-intermediate.pem`);
    await expect(
      verifyAttestation(decodeAttestation(fixture(`${DIR}/synthetic/${name}.bin`)), {
        roots: replaceRoot(vendorRoots(), 'gcp_tpm', root),
        collateral: { ...NOTHING, tpm: async () => ({ certChainPem, crls: [] }) },
        now: 1770000000,
        platform: { gcpFirmwareEndorsement: false },
      }),
    ).rejects.toMatchObject({ check });
  });
});
