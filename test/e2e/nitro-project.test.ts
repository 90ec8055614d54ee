/** A project of platform nitro from `new` to its measurements, with the container image built by a Docker engine. */
import { existsSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from '@dstack-cloud/scripts/build';
import { createNitro } from '@dstack-cloud/tee-simulator';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Dockerd, startDockerd } from '../harness/dockerd.ts';
import { type Outcome, repository, runCommand } from '../harness/run-command.ts';

const APP_ID = '00112233445566778899aabbccddeeff00112233';
const KMS_URL = 'https://kms.example:12001';
/** The template's, but for the base image: no registry is reachable. */
const DOCKERFILE = `FROM scratch
COPY dstack/ /opt/dstack/
COPY app/ /app/
CMD ["/bin/sh", "/app/entrypoint.sh"]
`;

describeWithPrograms('a project of platform nitro', ['dockerd', 'docker'], () => {
  let directory: string;
  let engine: Dockerd;
  let env: Record<string, string>;
  const path = (...parts: string[]): string => join(directory, ...parts);

  beforeAll(async () => {
    await build();
    directory = mkdtempSync(join(tmpdir(), 'nitro-project-'));
    engine = await startDockerd();
    const blobs = Object.entries({ bzImage: 'k', cmdline: 'reboot=k', init: 'i', 'nsm.ko': 'n' });
    for (const [name, text] of blobs) writeFileSync(path(name), text);
    env = { ...engine.env, HOME: directory, NITRO_CLI_BLOBS: directory };
  }, 240_000);
  afterAll(async () => {
    await engine?.stop();
    if (directory) rmSync(directory, { recursive: true, force: true });
  });

  const run = async (cwd: string, ...args: string[]): Promise<Outcome> =>
    await runCommand([process.execPath, join(repository, 'dist/bin/dstack-cloud.js'), ...args], {
      cwd,
      env,
      timeoutMs: 120_000,
    });

  test('nitro-project: the Dockerfile gives one hash, again and again, until its files change', async () => {
    expect((await run(directory, 'new', 'my-app', '--platform', 'nitro', '--app-id', APP_ID)).code).toBe(0);
    const project = path('my-app');
    const app = JSON.parse(readFileSync(join(project, 'app.json'), 'utf8'));
    app.nitro_config = { ...app.nitro_config, kms_url: KMS_URL, pcr1: 'any' };
    writeFileSync(join(project, 'app.json'), JSON.stringify(app));
    writeFileSync(join(project, 'Dockerfile'), DOCKERFILE);
    writeFileSync(join(project, '.env'), 'SECRET=hunter2\n');
    const early = await run(project, 'deploy', '--local');
    expect([early.code, early.stderr]).toEqual([1, expect.stringContaining('it is still the placeholder')]);
    expect(existsSync(join(project, 'output'))).toBe(false);

    writeFileSync(join(project, 'app/root_ca.pem'), createNitro(new Uint8Array(32)).rootPem);
    const first = await run(project, 'deploy', '--local');
    expect(first.code, first.stderr).toBe(0);
    const [, hash = ''] = /^OS_IMAGE_HASH: (0x[0-9a-f]{64})$/m.exec(first.stdout) ?? [];
    expect(first.stdout).toContain(`kms:add-image ${hash}`);
    expect(first.stdout).toContain(`app:add-hash --app-id 0x${APP_ID} ${hash}`);
    const image = readFileSync(join(project, 'output/enclave.eif'));
    for (const text of [
      `KMS_URL="${KMS_URL}"`,
      `APP_ID="0x${APP_ID}"`,
      'rootfs/opt/dstack/dstack-enclave-init.js',
    ])
      expect(image.includes(text), text).toBe(true);
    for (const text of ['hunter2', '__KMS_URL__"', 'nitro_config'])
      expect(image.includes(text), text).toBe(false);
    const measured = JSON.parse(readFileSync(join(project, 'output/measurements.json'), 'utf8'));
    expect(measured).toMatchObject({
      OS_IMAGE_HASH: hash,
      inputs: { kms_url: KMS_URL, app_id: `0x${APP_ID}` },
    });

    const later = new Date(Date.now() + 100_000);
    utimesSync(join(project, 'app/main.mjs'), later, later);
    const again = JSON.parse((await run(project, 'measure', '--json')).stdout);
    expect(again.OS_IMAGE_HASH).toBe(hash);
    writeFileSync(join(project, 'app/main.mjs'), '// changed\n', { flag: 'a' });
    const changed = JSON.parse((await run(project, 'measure', '--json')).stdout);
    expect(changed.OS_IMAGE_HASH).not.toBe(hash);
    expect([again.Measurements.PCR1, changed.Measurements.PCR1]).toEqual(
      Array(2).fill(measured.Measurements.PCR1),
    );
  }, 300_000);

  test('a Dockerfile that does not build or lies elsewhere, and an unknown kernel, are named', async () => {
    const project = path('my-app');
    const app = JSON.parse(readFileSync(join(project, 'app.json'), 'utf8'));
    const refused = async (changes: object, sentence: string): Promise<void> => {
      const nitro_config = { ...app.nitro_config, ...changes };
      writeFileSync(join(project, 'app.json'), JSON.stringify({ ...app, nitro_config }));
      const { code, stderr } = await run(project, 'measure');
      expect([code, stderr]).toEqual([1, expect.stringContaining(sentence)]);
    };
    await refused({ pcr1: '' }, 'do not give the expected PCR 1');
    await refused({ dockerfile: '../Dockerfile' }, 'leads out of the project');
    writeFileSync(join(project, 'Broken'), 'FROM scratch\nCOPY nowhere /\n');
    await refused({ dockerfile: 'Broken' }, 'docker build failed');
  }, 300_000);
});
