/** Uploads to Google Cloud that break, are killed, lose their token or their session: the image is whole in the end. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeGcpDocument, encodeTdxDocument, measureTdxImage } from '@dstack-cloud/attestation';
import { fromHex } from '@dstack-cloud/encoding';
import { bootRegistersOf, protectRoot, writeDisk, writeUki } from '@dstack-cloud/os-image';
import { simulatedImageFiles } from '@dstack-cloud/tee-simulator';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startOfDisk } from '../harness/gcp/compute/image-archive.ts';
import { type GcpLab, gcpLab, INSTANCE, leftovers } from '../harness/gcp/gcp-lab.ts';

const OS_IMAGE = 'dstack-cloud-0.6.0';
const BOOT_IMAGE = 'dstack-cloud-0-6-0-abababab';
const CHUNK = 8 * 1024 * 1024;
const IMAGE_BYTES = 1.5 * CHUNK;

let lab: GcpLab;
const abandoned = new AbortController();
beforeAll(async () => {
  lab = await gcpLab();
  lab.setConfig({ data_size: 1 });
});
afterAll(async () => {
  abandoned.abort();
  await lab?.cleanUp();
}, 60_000);

/** Nothing at Google, and nothing known of it here. */
beforeEach(() => {
  const { compute, storage } = lab.gcp;
  for (const all of [compute.instances, compute.disks, compute.images, storage.buckets]) all.clear();
  for (const path of [join(lab.project, 'state.json'), join(lab.root, '.local/share/dstack-cloud/uploads')])
    rmSync(path, { recursive: true, force: true });
  lab.gcp.forgetCalls();
});
afterEach(() => {
  lab.gcp.fault = undefined;
  expect(lab.gcp.schemaErrors).toEqual([]);
});

/** The boot image at Google is the disk of this computer. */
async function expectSameDisk(): Promise<void> {
  const { archive } = lab.gcp.compute.images.get(BOOT_IMAGE) ?? { archive: '' };
  const disk = readFileSync(join(lab.images, OS_IMAGE, 'disk.raw'));
  expect(Buffer.compare(await startOfDisk(archive, disk.length), disk)).toBe(0);
}

/** Ranges of the boot image that were sent, in order; the other uploads are small. */
function sent(): number[] {
  const starts = lab.gcp.calls.map(({ range }) => /^bytes (\d+)-(\d+)\//.exec(range ?? ''));
  return starts.filter((one) => one !== null && Number(one[2]) >= CHUNK - 1).map((one) => Number(one?.[1]));
}

describe('an upload', { timeout: 120_000 }, () => {
  beforeAll(() => lab.addImage(OS_IMAGE, 'ab'.repeat(32), IMAGE_BYTES));
  afterAll(() => lab.addImage(OS_IMAGE, 'ab'.repeat(32)));
  const isBoot = (range: string | undefined): boolean =>
    sent().length > 0 && range?.startsWith('bytes ') === true;

  it('goes on where a killed program was', async () => {
    const { gcp } = lab;
    gcp.fault = ({ range }) => (range?.startsWith(`bytes ${CHUNK}-`) ? 'silence' : undefined);
    await new Promise<void>((resolve) => {
      gcp.onSilence = resolve;
      void lab.cli(['deploy'], { signal: abandoned.signal });
    });
    gcp.fault = undefined;
    const locks = join(lab.root, '.local/share/dstack-cloud/locks');
    for (const name of readdirSync(locks)) if (name.includes(`.${process.pid}-`)) rmSync(join(locks, name));
    gcp.forgetCalls();
    const { stderr } = await lab.must('deploy');
    expect(stderr).toContain('Going on with the upload at 8 MB');
    expect(sent()).toEqual([CHUNK]);
    await expectSameDisk();
    expect(readdirSync(join(lab.root, '.local/share/dstack-cloud/uploads'))).toEqual([]);
    expect(leftovers(lab)).toMatchObject({ instances: [INSTANCE], objects: [] });
  });

  it('outlasts 429, 503 and connections that break, before and after the bytes arrived', async () => {
    const faults = [{ status: 429 }, 'reset', { status: 503 }, 'reset-after'] as const;
    let next = 0;
    lab.gcp.fault = ({ range }) =>
      isBoot(range) && !range?.startsWith('bytes *') ? faults[next++] : undefined;
    await lab.must('deploy');
    expect(next).toBeGreaterThan(faults.length);
    await expectSameDisk();
  });

  it('gets another token when the first one ends on the way', async () => {
    const { gcp } = lab;
    let before = 0;
    gcp.fault = ({ range }) => {
      if (before === 0 && range?.startsWith(`bytes ${CHUNK}-`)) {
        before = gcp.tokensGiven;
        gcp.revokeTokens();
      }
      return undefined;
    };
    await lab.must('deploy');
    expect(before).toBeGreaterThan(0);
    expect(gcp.tokensGiven).toBe(before + 1);
    await expectSameDisk();
  });

  it('starts again when Google forgot it', async () => {
    let isForgotten = false;
    lab.gcp.fault = ({ range }) => {
      if (!isForgotten && range?.startsWith(`bytes ${CHUNK}-`)) {
        isForgotten = true;
        lab.gcp.storage.forgetSessions();
      }
      return undefined;
    };
    await lab.must('deploy');
    expect(sent()).toEqual([0, CHUNK, 0, CHUNK]);
    await expectSameDisk();
  });

  it('gives up when Google fails without end, and goes on in the next run', async () => {
    const { gcp } = lab;
    gcp.fault = ({ method, range }) =>
      method === 'PUT' && (isBoot(range) || range === 'bytes */*') ? { status: 503 } : undefined;
    const refused = await lab.cli(['deploy']);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(
      /^Error: Image \S+: Google answered with status 503\n.*\n {2}Next: {5}Run the same command again/m,
    );
    expect(gcp.calls.filter(({ method }) => method === 'PUT').length).toBeLessThan(60);
    expect(lab.state()).toMatchObject({ status: 'STARTING', external_ip: '' });
    expect(leftovers(lab)).toMatchObject({ instances: [], images: [], objects: [] });
    gcp.fault = undefined;
    const { stderr } = await lab.must('deploy');
    expect(stderr).toContain('Uploading boot image');
    await expectSameDisk();
  });

  it('of the boot image again leaves the old one until the new one is there', async () => {
    await lab.must('deploy');
    lab.gcp.forgetCalls();
    lab.gcp.fault = ({ range }) => (range?.startsWith(`bytes ${CHUNK}-`) ? { status: 403 } : undefined);
    const refused = await lab.cli(['deploy', '--force-boot-image']);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining(BOOT_IMAGE) });
    expect(leftovers(lab)['images']).toEqual([BOOT_IMAGE]);
    lab.gcp.fault = undefined;
    await lab.must('deploy', '--force-boot-image');
    expect(
      lab.gcp.calls.some(({ method, path }) => method === 'DELETE' && path.endsWith(`/${BOOT_IMAGE}`)),
    ).toBe(true);
    expect(leftovers(lab)).toMatchObject({ instances: [INSTANCE], images: [BOOT_IMAGE], objects: [] });
    await expectSameDisk();
  });
});

describe('an image as a build makes it', { timeout: 120_000 }, () => {
  const folder = () => join(lab.images, OS_IMAGE);
  const hash = (name: string, bytes: string | Uint8Array) => createHash(name).update(bytes);
  const program = new Uint8Array(4096 + 0x71);
  program.set(new TextEncoder().encode('DSTKSTUB'), 4096);

  /** What is measured, listed under one hash; the document for Google may be that of another kernel image. */
  async function write(other?: Uint8Array): Promise<void> {
    const { firmware, kernel, initrd, commandLine, directory } = simulatedImageFiles('gcp');
    const sha384 = new Uint8Array(hash('sha384', initrd).digest());
    const parts = { firmware, kernel, commandLine, initrd: { bytes: initrd.length, sha384 } };
    const stub = { program, dataStart: 4096, entry: 0x10 };
    const uki = writeUki({ stub, osRelease: new Uint8Array(9), commandLine, initrd, kernel });
    const { uki: digest } = bootRegistersOf(uki);
    const metadata = JSON.parse(String(Buffer.from(directory.get('metadata.json')!))) as object;
    const listed = new Map<string, string | Uint8Array>([
      ...['ovmf.fd', 'bzImage', 'initramfs.cpio.gz'].map((name) => [name, directory.get(name)!] as const),
      ['metadata.json', JSON.stringify({ ...metadata, rootfs: undefined })],
      ['measurement.gcp.cbor', encodeGcpDocument(other ?? fromHex(digest))],
      ['measurement.tdx.cbor', encodeTdxDocument(measureTdxImage(parts, 2 ** 31))],
    ]);
    const lines = [...listed].map(([name, bytes]) => `${hash('sha256', bytes).digest('hex')}  ${name}\n`);
    rmSync(folder(), { recursive: true, force: true });
    mkdirSync(folder());
    for (const [name, bytes] of listed) writeFileSync(join(folder(), name), bytes);
    writeFileSync(join(folder(), 'sha256sum.txt'), lines.join(''));
    writeFileSync(join(folder(), 'uki.efi'), uki);
    writeFileSync(join(folder(), 'auth_hash.txt'), `${digest}\n`);
    const root = join(lab.root, 'root.squashfs');
    writeFileSync(root, new Uint8Array(8192));
    await writeDisk(join(folder(), 'disk.raw'), uki, await protectRoot(root));
  }
  afterAll(() => {
    rmSync(folder(), { recursive: true, force: true });
    lab.addImage(OS_IMAGE, 'ab'.repeat(32));
  });

  it('is refused before anything is made when its list has the measurements of another system', async () => {
    await write(new Uint8Array(32).fill(0xee));
    const { code, stderr } = await lab.cli(['deploy']);
    expect(code).not.toBe(0);
    expect(stderr).toContain('measurement.gcp.cbor is that of another kernel image than uki.efi');
    expect(sent()).toEqual([]);
    expect(leftovers(lab)).toMatchObject({ instances: [], disks: [], images: [], objects: [] });
  });

  it('is checked whole when all of it is true', async () => {
    await write();
    const { code, stderr } = await lab.cli(['deploy', '--dry-run']);
    expect(code, stderr).toBe(0);
  });
});
