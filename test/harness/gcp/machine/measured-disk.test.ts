/** What the emulated Compute Engine does before QEMU starts: a disk is read and measured into a vTPM of Google's shape. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import {
  type AttestationError,
  addRoot,
  replayDigests,
  vendorCollateral,
  vendorRoots,
  verifyAttestation,
} from '@dstack-cloud/attestation';
import { openGcpTdxDevice, readPcrs, withTpm } from '@dstack-cloud/attestation/attester';
import { toHex } from '@dstack-cloud/encoding';
import { bootRegistersOf, protectRoot, writeDisk, writeUki } from '@dstack-cloud/os-image';
import {
  type CollateralServer,
  collateralServer,
  createGcp,
  createPlatform,
  tsmEndpoint,
} from '@dstack-cloud/tee-simulator';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type BootDisk, readBootDisk } from './boot-disk.ts';
import { writeDiskOf } from './disk-file.ts';
import { gceImageOf } from './gce-image.ts';
import { Vtpm } from './vtpm.ts';

const SEED = new Uint8Array(32).fill(9);
const MIB = 1024 * 1024;

describeWithPrograms('a boot disk', ['swtpm', 'swtpm_setup', 'swtpm_ioctl', 'mtype'], () => {
  const folder = mkdtempSync(join(tmpdir(), 'gce-'));
  const path = join(folder, 'disk.raw');
  const uki = testUki();
  let disk: BootDisk;
  beforeAll(async () => {
    const root = join(folder, 'root');
    writeFileSync(root, new Uint8Array(8192).fill(7));
    await writeDisk(path, uki, await protectRoot(root));
    disk = await readBootDisk(path);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('gives firmware the image that it was written with, and nothing when its table is damaged', async () => {
    expect(toHex(disk.uki)).toBe(toHex(uki));
    const text = Buffer.from(disk.gpt).toString('utf16le');
    for (const name of ['EFI System Partition', 'dstack-rootfs']) expect(text).toContain(name);
    expect(Buffer.from(disk.gpt).subarray(92, 100).toString('hex')).toBe('0200000000000000');
    const damaged = join(folder, 'damaged.raw');
    writeFileSync(damaged, new Uint8Array(MIB));
    await expect(readBootDisk(damaged)).rejects.toThrow('no partition table');
  });

  it('measures as the image’s builder predicts', () => {
    const { image } = gceImageOf(disk);
    const predicted = bootRegistersOf(uki);
    expect(toHex(image.uki)).toBe(predicted.uki);
    expect(toHex(replayDigests([image.commandLine, image.initrd], 'sha256'))).toBe(predicted.pcr9);
    expect(image.sections).toBe(false);
  });

  it('comes out of the archive as it went in, larger than it was', async () => {
    const header = new Uint8Array(512);
    const content = new Uint8Array(3 * 65_536).fill(5, 65_000, 70_000);
    const archive = join(folder, 'archive.tar.gz');
    writeFileSync(archive, gzipSync(Buffer.concat([header, content, new Uint8Array(1024)])));
    const copy = join(folder, 'copy.raw');
    await writeDiskOf(archive, copy, 4 * 65_536);
    const expected = new Uint8Array(4 * 65_536);
    expected.set(content);
    expect(Buffer.compare(readFileSync(copy), expected)).toBe(0);
  });

  it('is what evidence of the machine names; its certificate leads to its authority', async () => {
    const gcp = createGcp(SEED);
    const platform = createPlatform(SEED);
    const server: CollateralServer = await collateralServer(platform, { gcp });
    const socketPath = join(folder, 'tee');
    const tee = await tsmEndpoint(platform, { socketPath, image: 'gce' });
    const vtpm = new Vtpm(folder);
    const certified = createGcp(SEED, { collateralUrl: server.url });
    const { image } = gceImageOf(disk);
    const boot = (tpm: string) => certified.boot(tpm, { image, machine: 'one' });
    try {
      const attest = async (tpm: string) => {
        const { eventLog, vmConfig } = await boot(tpm);
        const tpmEventLog = join(folder, 'tpm.log');
        writeFileSync(tpmEventLog, eventLog);
        const device = await openGcpTdxDevice({
          ...{ tsm: `unix:${socketPath}`, rtmr: `unix:${socketPath}`, eventLog: join(folder, 'events.log') },
          ...{ tpm, tpmEventLog, vmConfig: () => JSON.stringify(vmConfig) },
        });
        return await device.attest(new Uint8Array(64));
      };
      const attestation = await vtpm.powerOn(attest);
      const roots = addRoot(addRoot(vendorRoots(), 'tdx', platform.rootDer), 'gcp_tpm', gcp.rootDer);
      const collateral = vendorCollateral({ roots, pccs: server.url });
      const now = Math.floor(Date.now() / 1000);
      const rules = { roots, collateral, now, platform: { gcpFirmwareEndorsement: 'vendor' as const } };
      expect(await verifyAttestation(attestation, rules)).toMatchObject({ simulated: true });
      const another = { ...rules, roots: addRoot(vendorRoots(), 'tdx', platform.rootDer) };
      const refused = await verifyAttestation(attestation, another).catch(
        (error: AttestationError) => error.code,
      );
      expect(refused).toBe('chain-invalid');
      // Switched off and on again it has the same key, and new registers.
      const again = await vtpm.powerOn(async (tpm) => {
        const { akCertificate } = await boot(tpm);
        const [pcr9] = await withTpm(tpm, (client) => readPcrs(client, 'sha256', [9]));
        return { akCertificate, pcr9: toHex(pcr9!.value) };
      });
      expect(again.pcr9).toBe(bootRegistersOf(uki).pcr9);
    } finally {
      await vtpm.powerOff();
      await tee.close();
      await server.close();
    }
  });
});

/** The parts of an image that are measured; nothing of it could run. */
function testUki(): Uint8Array {
  const program = new Uint8Array(8192);
  program.set(new TextEncoder().encode('DSTKSTUB'), 4096);
  return writeUki({
    stub: { program, dataStart: 4096, entry: 0 },
    osRelease: new TextEncoder().encode('ID=test\n'),
    commandLine: 'console=ttyS0 quiet',
    initrd: new Uint8Array(1000).fill(1),
    kernel: testKernel(),
  });
}

/** A kernel is a PE image too. */
function testKernel(): Uint8Array {
  const program = new Uint8Array(8192);
  program.set(new TextEncoder().encode('DSTKSTUB'), 4096);
  const filler = new Uint8Array(512).fill(2);
  return writeUki({
    stub: { program, dataStart: 4096, entry: 0 },
    osRelease: filler,
    commandLine: 'none',
    initrd: filler,
    kernel: filler,
  });
}
