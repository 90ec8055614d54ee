/** A pull that is killed, or whose disk gets full, at each change of the file system: an image is there whole or not at all. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { changes, diskFullAt, killedAt } from '@dstack-cloud/test/crash-points';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { vmImage } from '../../vm/vm-image.ts';
import { Images } from '../images.ts';
import { imageTar, RegistryLab } from '../test/registry-lab.ts';
import { ServiceLab, until } from '../test/service-lab.ts';
import { writeTinyImage } from '../test/tiny-image.ts';
import { pullImage } from './pull-image.ts';
import { parseRegistry } from './registry-address.ts';
import { RegistryClient } from './registry-client.ts';

vi.mock('node:fs/promises', async (load) =>
  (await import('@dstack-cloud/test/crash-points')).watchFiles(await load()),
);

let root: string;
let imagePath: string;
let lab: RegistryLab;
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'vmm-pull-'));
  imagePath = join(root, 'image');
  lab = new RegistryLab();
  await lab.start();
  lab.publish('0.6.0', [imageTar(writeTinyImage(join(root, 'source'), 'tiny', 'sleeps'))]);
});
afterEach(async () => {
  await lab.stop();
  rmSync(root, { recursive: true, force: true });
});

async function pull(): Promise<void> {
  const client = new RegistryClient(parseRegistry(lab.address)!);
  const { signal } = new AbortController();
  await pullImage(client, { tag: '0.6.0', imagePath, signal, progress: () => undefined });
}

const listed = async (): Promise<string[]> => (await new Images(imagePath).list()).map(({ name }) => name);

it('killed at each change', async () => {
  const outcomes = new Set<number>();
  for (let at = 1; ; at += 1) {
    rmSync(imagePath, { recursive: true, force: true });
    mkdirSync(imagePath);
    const killed = await killedAt(at, pull);
    const names = await listed();
    outcomes.add(names.length);
    for (const name of names) await vmImage(join(imagePath, name), 'direct');
    // What is left is hidden, and named so that the next service removes it.
    for (const name of readdirSync(imagePath))
      if (name !== '0.6.0') expect(name).toMatch(/^\.0\.6\.0\..*\.tmp$/);
    if (!killed) break;
    expect(at).toBeLessThan(100);
  }
  expect(outcomes).toEqual(new Set([0, 1]));
  expect(changes()).toBeGreaterThan(8);
}, 60_000);

it('with a disk that gets full at each change', async () => {
  mkdirSync(imagePath);
  for (let at = 1; ; at += 1) {
    const { refused, error } = await diskFullAt(at, pull);
    if (refused === 0) break;
    expect(error, `change ${at}`).toMatchObject({ code: 'no_space' });
    expect(readdirSync(imagePath), `change ${at}`).toEqual([]);
    expect(at).toBeLessThan(100);
  }
  expect(await listed()).toEqual(['0.6.0']);
}, 60_000);

it('of an image for which the disk has no room, which is known before', async () => {
  mkdirSync(imagePath);
  const { bavail, bsize } = statfsSync(imagePath);
  lab.publish('0.6.0', [imageTar(join(root, 'source/tiny'))], (layer) => ({
    ...layer,
    size: bavail * bsize * 2,
  }));
  const client = new RegistryClient(parseRegistry(lab.address)!);
  const { signal } = new AbortController();
  const options = {
    tag: '0.6.0',
    imagePath,
    signal,
    maxBytes: Number.MAX_SAFE_INTEGER,
    progress: () => undefined,
  };
  await expect(pullImage(client, options)).rejects.toMatchObject({ code: 'no_space' });
  expect(lab.requests.filter((line) => line.includes('/blobs/'))).toEqual([]);
  expect(readdirSync(imagePath)).toEqual([]);
});

it('by a service that is killed: the next one removes what is left, and pulls it', async () => {
  const service = new ServiceLab(`[image]\nregistry = "${lab.address}"`);
  try {
    writeFileSync(join(service.imagePath, '.not-ours.tmp'), 'kept');
    await service.start();
    const before = readdirSync(service.imagePath);
    lab.fault = ({ url = '' }, response) => {
      if (!url.includes('/blobs/')) return false;
      const [layer] = lab.blobs.values();
      response.writeHead(200).write(layer!.subarray(0, layer!.length - 100));
      return true;
    };
    expect(await service.must('PullRegistryImage', { tag: '0.6.0' })).toBeNull();
    const hidden = (): string[] => readdirSync(service.imagePath).filter((name) => !before.includes(name));
    await until(() => hidden().length === 1);
    expect((await service.must('ListRegistryImages')).images).toEqual([
      { tag: '0.6.0', local: false, pulling: true, error: '', progress: expect.stringMatching(/% of 1 MB/) },
    ]);
    await service.stop('SIGKILL');
    expect(hidden()).toEqual([expect.stringMatching(/^\.0\.6\.0\..*\.tmp$/)]);
    lab.fault = () => false;
    await service.start();
    expect(hidden()).toEqual([]);
    await service.must('PullRegistryImage', { tag: '0.6.0' });
    await until(async () => (await service.must('ListRegistryImages')).images[0].local);
    expect((await service.must('ListImages')).images.map(({ name }: { name: string }) => name)).toContain(
      '0.6.0',
    );
    // A pull that is under way does not keep the service from ending.
    await service.must('DeleteImage', { id: '0.6.0' });
    lab.fault = ({ url = '' }) => url.includes('/blobs/');
    await service.must('PullRegistryImage', { tag: '0.6.0' });
    expect(await service.stop()).toBe(0);
    expect(hidden()).toEqual([]);
  } finally {
    await service.cleanUp();
  }
}, 120_000);
