import { createHash } from 'node:crypto';
import { measureTdxImage, type VerifiedAttestation, verifyOsImage } from '@dstack-cloud/attestation';
import { fromHex } from '@dstack-cloud/encoding';
import { expect, test } from 'vitest';
import { sha384 } from './hash.ts';
import { type ImageMachine, simulatedImageBoot } from './image-boot.ts';
import { simulatedImageFiles } from './image-files.ts';
import type { SimulatedBoot } from './simulated-image.ts';

const GIB = 1024 ** 3;
const image = simulatedImageFiles('boot-test');
const crypto = {
  hash: (name: string, ...parts: readonly Uint8Array[]): Uint8Array => {
    const hash = createHash(name);
    for (const part of parts) hash.update(part);
    return new Uint8Array(hash.digest());
  },
};

/** The part of verified evidence that the image check looks at. */
function evidenceOf(
  boot: SimulatedBoot,
  config: Record<string, unknown> = boot.vmConfig,
): VerifiedAttestation {
  const names = ['acpi-loader', 'acpi-rsdp', 'acpi-tables'];
  const eventLog = boot.events.map(({ rtmr, type, digest, data }) => ({
    imr: rtmr,
    eventType: type,
    digest,
    event: Buffer.from(data).toString() === 'ACPI DATA' ? (names.shift() ?? '') : '',
    eventPayload: data,
  }));
  const td = { mrTd: boot.mrTd, rtmrs: [...boot.rtmrs, new Uint8Array(48)] };
  return {
    mode: 'dstack-tdx',
    config: JSON.stringify(config),
    evidence: { kind: 'tdx', td },
    attestation: { quote: { mode: 'dstack-tdx', quote: new Uint8Array(), eventLog } },
  } as unknown as VerifiedAttestation;
}

/** The check with these files in the place of a download. */
function check(evidence: VerifiedAttestation, files = image): ReturnType<typeof verifyOsImage> {
  const { firmware, kernel, commandLine } = files;
  const initrd = { bytes: files.initrd.length, sha384: sha384(files.initrd) };
  return verifyOsImage(evidence, {
    tdxRegisters: async ({ compute, memory }) =>
      compute(measureTdxImage({ firmware, kernel, initrd, commandLine }, memory, crypto)),
  });
}

test.each<ImageMachine>([
  {},
  { memorySize: GIB },
  { memorySize: 2 * GIB },
  { memorySize: 0xb000_0000 - 4096 },
  { memorySize: 0xb000_0000 },
  { memorySize: 64 * GIB, cpuCount: 16 },
  { qemuVersion: '8.2.2' },
  { qemuVersion: '9.0.1' },
])('an image booted on %o measures what its files say', async (machine) => {
  const verdict = await check(evidenceOf(simulatedImageBoot(image, machine)));
  expect(verdict.osImageHash).toEqual(image.osImageHash);
  expect(verdict.acpiTables).toBe('as-logged');
});

test('qemu_single_pass_add_pages true selects two passes', async () => {
  const boot = simulatedImageBoot(image, { qemuVersion: '8.2.2' });
  const config = { ...boot.vmConfig, qemu_version: '9.1.0' };
  await expect(check(evidenceOf(boot, config))).rejects.toThrow('MRs do not match: MRTD mismatch');
  await check(evidenceOf(boot, { ...config, qemu_single_pass_add_pages: true }));
});

test.each([
  ['MRTD', { firmware: simulatedImageFiles('other').firmware }],
  ['RTMR1', { kernel: simulatedImageFiles('other').kernel }],
  ['RTMR1', { initrd: new Uint8Array(9000) }],
  ['RTMR2', { initrd: image.initrd.map((byte) => byte ^ 1) }],
  ['RTMR2', { commandLine: `${image.commandLine} init=/bin/sh` }],
])('%s tells another image', async (register, part) => {
  const boot = simulatedImageBoot({ ...image, ...part });
  await expect(check(evidenceOf(boot))).rejects.toMatchObject({
    code: 'image',
    message: `MRs do not match: ${register} mismatch`,
    expected: expect.stringMatching(/^[0-9a-f]{96}$/),
    found: expect.stringMatching(/^[0-9a-f]{96}$/),
  });
});

test('RTMR0 tells another memory size, and ACPI digests that were not measured', async () => {
  const boot = simulatedImageBoot(image, { memorySize: 4 * GIB });
  const bigger = { ...boot.vmConfig, memory_size: 8 * GIB };
  await expect(check(evidenceOf(boot, bigger))).rejects.toThrow('MRs do not match: RTMR0 mismatch');
  const events = boot.events.map((event) =>
    Buffer.from(event.data).toString() === 'ACPI DATA' ? { ...event, digest: new Uint8Array(48) } : event,
  );
  await expect(check(evidenceOf({ ...boot, events }))).rejects.toThrow('MRs do not match: RTMR0 mismatch');
});

test('memory too small for firmware or initrd is refused', async () => {
  const boot = simulatedImageBoot(image);
  for (const memory_size of [0x800000, 0x28000, 4096]) {
    await expect(check(evidenceOf(boot, { ...boot.vmConfig, memory_size }))).rejects.toMatchObject({
      code: 'image',
    });
  }
});

test('the separator and the empty SecureBoot variable have the digests of docs/protocol/images.md section 4.2', () => {
  const digests = simulatedImageBoot(image).events.map(({ digest }) => Buffer.from(digest).toString('hex'));
  expect(digests).toContain(
    '394341b7182cd227c5c6b07ef8000cdfd86136c4292b8e576573ad7ed9ae41019f5818b4b971c9effc60e1ad9f1289f0',
  );
  expect(digests).toContain(
    '9dc3a1f80bcec915391dcda5ffbb15e7419f77eab462bbf72b42166fb70d50325e37b36f93537a863769bcf9bedae6fb',
  );
  expect(fromHex(digests[0]!)).toHaveLength(48);
});
