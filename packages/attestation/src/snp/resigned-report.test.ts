import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import { loadMock, MOCK, signMock, verifyMock } from '../testing/mock-set.fixture.ts';

describeWithFixtures('SEV-SNP reports signed again', `${MOCK}/expected.json`, () => {
  const sign = (report: Uint8Array): Uint8Array => {
    const signature = signMock('p384', 'sev-vcek', report.subarray(0, 0x2a0));
    report.set(signature.slice(0, 48).reverse(), 0x2a0);
    report.set(signature.slice(48).reverse(), 0x2a0 + 72);
    return report;
  };
  const changed = (change: (view: DataView, report: Uint8Array) => void) => {
    const [attestation, quote] = loadMock('snp-good', 'dstack-amd-sev-snp');
    const report = quote.report.slice();
    change(new DataView(report.buffer), report);
    return verifyMock(attestation, { ...quote, report: sign(report) });
  };

  it('accepts the same report', async () => {
    expect((await changed(() => undefined)).tcbStatus).toBe('UpToDate');
  });

  it.each<[string, (view: DataView, report: Uint8Array) => void, string]>([
    [
      'a migration agent',
      (view) => view.setUint32(8, view.getUint32(8, true) | (1 << 18), true),
      'snp.migration',
    ],
    ['RAPL demanded off', (view) => view.setUint32(8, view.getUint32(8, true) | (1 << 23), true), 'snp.rapl'],
    [
      'ciphertext hiding',
      (view) => view.setUint32(8, view.getUint32(8, true) | (1 << 24), true),
      'snp.ciphertext-hiding',
    ],
    ['a masked chip key', (view) => view.setUint32(0x48, 2, true), 'snp.chip-key'],
    ['a VLEK', (view) => view.setUint32(0x48, 1 << 2, true), 'snp.signing-key'],
    ['another algorithm', (view) => view.setUint32(0x34, 2, true), 'snp.signature-algorithm'],
    ['version 6', (view) => view.setUint32(0, 6, true), 'snp.report'],
    ['version 1', (view) => view.setUint32(0, 1, true), 'snp.report'],
    ['VMPL 3', (view) => view.setUint32(0x30, 3, true), 'snp.vmpl'],
    [
      'an unknown family',
      (view, report) => {
        view.setUint32(0, 3, true);
        report.set([0x1a, 0x12, 0], 0x188);
      },
      'snp.family',
    ],
    ['another HOST_DATA', (_view, report) => report.fill(1, 0xc0, 0xe0), 'snp.host-data'],
    ['another measurement', (_view, report) => report.fill(1, 0x90, 0xc0), 'image.sev-snp'],
  ])('refuses %s', async (_name, change, check) => {
    await expect(changed(change)).rejects.toMatchObject({ check });
  });

  it.each([0x38, 0x180, 0x1e0, 0x1f0])('calls a TCB that differs at %d OutOfDate', async (offset) => {
    const verified = await changed((_view, report) => {
      report[offset]! ^= 1;
    });
    expect(verified.tcbStatus).toBe('OutOfDate');
  });

  it.each<[string, (config: Record<string, unknown>, document: Record<string, unknown>) => void]>([
    [
      'another MrConfig in the configuration',
      (config) => Object.assign(config, { mr_config: '{"version":3}' }),
    ],
    ['no measurement', (config) => Object.assign(config, { sev_snp_measurement: undefined })],
    ['an unknown member', (_config, document) => Object.assign(document, { ovmf_sections: [] })],
    ['an unknown CPU', (_config, document) => Object.assign(document, { vcpu_type: 'Opteron' })],
    ['other features', (_config, document) => Object.assign(document, { guest_features: 3 })],
    ['too many vCPUs', (_config, document) => Object.assign(document, { vcpus: 513 })],
    ['no vCPU', (_config, document) => Object.assign(document, { vcpus: 0 })],
    ['another checksum file', (_config, document) => Object.assign(document, { checksum_file: 'AA==' })],
    ['another measurement document', (_config, document) => Object.assign(document, { measurement: 'oA==' })],
    ['another image hash', (config) => Object.assign(config, { os_image_hash: 'ab'.repeat(32) })],
  ])('refuses a configuration with %s', async (_name, change) => {
    const [attestation, quote] = loadMock('snp-good', 'dstack-amd-sev-snp');
    const config = JSON.parse(attestation.config) as Record<string, unknown>;
    const document = JSON.parse(String(config['sev_snp_measurement'])) as Record<string, unknown>;
    const before = JSON.stringify(document);
    change(config, document);
    if (JSON.stringify(document) !== before) config['sev_snp_measurement'] = JSON.stringify(document);
    await expect(verifyMock(attestation, quote, JSON.stringify(config))).rejects.toMatchObject({
      check: 'image.sev-snp',
    });
  });
});
