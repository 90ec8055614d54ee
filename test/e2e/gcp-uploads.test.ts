/** Uploads to Google Cloud that break, are killed, lose their token or their session: the image is whole in the end. */
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
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
