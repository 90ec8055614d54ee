/** Our OS image, built from the locked packages as a user builds it. */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build as buildPrograms } from '@dstack-cloud/scripts/build';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, type TestContext, test } from 'vitest';
import { type Outcome, repository, runCommand } from '../harness/run-command.ts';

const BUILD_MS = 300_000;
const cloud = join(repository, 'dist/bin/dstack-cloud.js');

let directory: string;
beforeAll(async () => {
  await buildPrograms();
  directory = mkdtempSync(join(tmpdir(), 'dstack-image-'));
}, 120_000);
afterAll(() => {
  if (directory) rmSync(directory, { recursive: true, force: true });
});

function run(args: readonly string[], env: Record<string, string> = {}): Promise<Outcome> {
  // No configuration of the user's own; the downloads are shared.
  const own = { XDG_CONFIG_HOME: directory, ...env };
  return runCommand([process.execPath, cloud, 'image', ...args, '--json'], { env: own, timeoutMs: BUILD_MS });
}

/** A mirror has only the newest versions: when one that the lock names is gone, nothing can be built here. */
async function build(context: TestContext, output: string, env?: Record<string, string>): Promise<object> {
  const { code, stdout, stderr } = await run(['build', '--dev', '--name', 'image', '--output', output], env);
  if (code !== 0 && stdout.includes('"package-missing"')) context.skip(`the lock is old: ${stderr.trim()}`);
  expect([code, stderr]).toEqual([0, expect.any(String)]);
  return JSON.parse(stdout) as object;
}

describeWithPrograms('os image', ['apt-get', 'dpkg-deb'], () => {
  test('image-reproducible: two builds in different folders and under other settings are equal, byte for byte', {
    timeout: 2 * BUILD_MS,
  }, async (context) => {
    const [one, two] = [join(directory, 'one'), join(directory, 'another/folder')];
    const first = await build(context, one);
    const second = await build(context, two, { TZ: 'Asia/Tokyo', LC_ALL: 'C' });
    const { folder: _, ...facts } = first as { folder: string };
    expect(second).toMatchObject(facts);
    for (const name of ['disk.raw', 'uki.efi', 'rootfs.img.parted.verity', 'sha256sum.txt', 'sbom.cdx.json'])
      expect(
        Buffer.compare(readFileSync(join(one, 'image', name)), readFileSync(join(two, 'image', name))),
      ).toBe(0);
    // What it was tried on is said beside what is measured: it does not change the hash.
    expect(readFileSync(join(one, 'image/sbom.cdx.json'), 'utf8')).toContain('dstack:tried-on');
    expect(readFileSync(join(one, 'image/sha256sum.txt'), 'utf8')).not.toContain('sbom');
    const diff = await run(['diff', join(one, 'image'), join(two, 'image')]);
    expect([diff.code, JSON.parse(diff.stdout)]).toEqual([0, []]);
    const measured = await run(['measure', join(one, 'image')]);
    expect(JSON.parse(measured.stdout)).toMatchObject({
      flavour: 'dev',
      pcr4: expect.stringMatching(/^[0-9a-f]{64}$/),
      pcr9: expect.stringMatching(/^[0-9a-f]{64}$/),
      ...hashesOf(first),
    });
    expect(statSync(join(one, 'image/rootfs.img.parted.verity')).size).toBeLessThan(220 * 1024 * 1024);
  });
});

function hashesOf(built: object): object {
  const { os_image_hash, auth_hash } = built as { os_image_hash: string; auth_hash: string };
  return { os_image_hash, auth_hash };
}
