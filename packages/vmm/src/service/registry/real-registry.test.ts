/** Pulls from the registry of the distribution project, whose images were pushed by its own protocol. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describeWithPrograms, findProgram } from '@dstack-cloud/test/requires';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { freePort } from '../../ports/ports.ts';
import { imageTar } from '../test/registry-lab.ts';
import { writeTinyImage } from '../test/tiny-image.ts';
import { RegistryImages } from './registry-images.ts';

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

let root: string;
let registry: ChildProcess | undefined;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vmm-real-registry-'));
});
afterEach(() => {
  registry?.kill('SIGKILL');
  rmSync(root, { recursive: true, force: true });
});

async function startRegistry(): Promise<string> {
  const address = `127.0.0.1:${await freePort()}`;
  const config = join(root, 'registry.yml');
  const storage = `storage:\n  filesystem:\n    rootdirectory: ${join(root, 'registry')}`;
  writeFileSync(config, `version: 0.1\n${storage}\nhttp:\n  addr: ${address}\n`);
  registry = spawn(findProgram('docker-registry')!, ['serve', config], { stdio: 'ignore' });
  const answers = async () => (await fetch(`http://${address}/v2/`)).ok;
  await expect.poll(() => answers().catch(() => false), { timeout: 20_000 }).toBe(true);
  return `http://${address}`;
}

const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

async function pushBlob(base: string, bytes: Uint8Array): Promise<{ digest: string; size: number }> {
  const begun = await fetch(`${base}/blobs/uploads/`, { method: 'POST' });
  const url = new URL(begun.headers.get('location')!, base);
  url.searchParams.set('digest', digestOf(bytes));
  const done = await fetch(url, { method: 'PUT', body: bytes as Uint8Array<ArrayBuffer> });
  expect(done.status).toBe(201);
  return { digest: digestOf(bytes), size: bytes.length };
}

describeWithPrograms('the registry of the distribution project', ['docker-registry'], () => {
  it('gives an image as it was pushed, and its tags', async () => {
    const source = writeTinyImage(root, 'tiny', 'sleeps');
    const origin = await startRegistry();
    const base = `${origin}/v2/dstack/images`;
    const config = await pushBlob(base, Buffer.from('{}'));
    const layer = await pushBlob(base, new Uint8Array(gzipSync(imageTar(source))));
    const manifest = {
      ...{ schemaVersion: 2, mediaType: MANIFEST },
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
      layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', ...layer }],
    };
    for (const tag of ['dstack-0.6.0', 'dstack-0.6.1']) {
      const headers = { 'Content-Type': MANIFEST };
      const put = { method: 'PUT', headers, body: JSON.stringify(manifest) };
      expect((await fetch(`${base}/manifests/${tag}`, put)).status).toBe(201);
    }
    const failed: unknown[] = [];
    const images = new RegistryImages({
      registry: `${origin}/dstack/images`,
      imagePath: join(root, 'image'),
      pulled: () => undefined,
      failed: (_, error) => failed.push(error),
    });
    await images.pull('dstack-0.6.0');
    await expect
      .poll(async () => (await images.list())[0], { timeout: 20_000 })
      .toMatchObject({ pulling: false });
    expect(failed).toEqual([]);
    expect((await images.list()).map(({ tag, local }) => [tag, local])).toEqual([
      ['dstack-0.6.0', true],
      ['dstack-0.6.1', false],
    ]);
    for (const name of readdirSync(source))
      expect(readFileSync(join(root, 'image/dstack-0.6.0', name))).toEqual(readFileSync(join(source, name)));
  }, 60_000);
});
