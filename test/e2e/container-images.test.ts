/** Our services as container images: made without an engine, run by a real one. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { freePort } from '@dstack-cloud/vmm';
import { afterAll, beforeAll, expect, type TestContext, test } from 'vitest';
import { callKms } from '../harness/call-kms.ts';
import { type Dockerd, docker, startDockerd } from '../harness/dockerd.ts';
import { writeLoneConfig } from '../harness/lone-kms.ts';
import { repository, runCommand } from '../harness/run-command.ts';
import { shellBlocks } from '../harness/shell-blocks.ts';

const BUILD_MS = 300_000;
const SERVICES = ['dstack-kms', 'dstack-auth-api', 'dstack-verifier'];
/** As strict as an engine can be; none of the services needs more. */
const STRICT = ['--read-only', '--cap-drop', 'ALL', '--security-opt', 'no-new-privileges'];

interface Built {
  readonly name: string;
  readonly reference: string;
  readonly archive: string;
  readonly sbom: string;
  readonly digest: string;
  readonly image_id: string;
}

let directory: string;
let engine: Dockerd;
let images: Built[] | undefined;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'dstack-containers-'));
  engine = await startDockerd();
}, BUILD_MS);
afterAll(async () => {
  await engine?.stop();
  rmSync(directory, { recursive: true, force: true });
}, 60_000);

async function build(
  context: TestContext,
  output: string,
  env: Record<string, string> = {},
): Promise<Built[]> {
  const command = [process.execPath, join(repository, 'dist/bin/dstack-cloud.js'), 'image', 'container'];
  const { code, stdout, stderr } = await runCommand([...command, '--output', output, '--json'], {
    env: { XDG_CONFIG_HOME: directory, ...env },
    timeoutMs: BUILD_MS,
  });
  // A mirror has only the newest versions: when one that the lock names is gone, nothing can be built here.
  if (code !== 0 && stdout.includes('"package-missing"')) context.skip(`the lock is old: ${stderr.trim()}`);
  expect([code, stderr]).toEqual([0, expect.any(String)]);
  return JSON.parse(stdout) as Built[];
}

/** Built once, as the documentation has it. */
async function built(context: TestContext): Promise<Built[]> {
  images ??= await build(context, join(directory, 'containers'));
  return images;
}

const sha256 = (file: string) => createHash('sha256').update(readFileSync(file)).digest('hex');

describeWithPrograms('container images', ['apt-get', 'dpkg-deb', 'dockerd', 'ctr'], () => {
  test('containers-reproducible: two builds in different folders and under other settings are equal, byte for byte', {
    timeout: 2 * BUILD_MS,
  }, async (context) => {
    const one = await built(context);
    const two = await build(context, join(directory, 'another/folder'), { TZ: 'Asia/Tokyo', LC_ALL: 'C' });
    expect(one.map(({ name }) => name)).toEqual(SERVICES);
    for (const [index, { archive, sbom, digest }] of one.entries()) {
      expect(two[index]?.digest).toBe(digest);
      expect([sha256(two[index]!.archive), sha256(two[index]!.sbom)]).toEqual([
        sha256(archive),
        sha256(sbom),
      ]);
    }
  });

  test('containers-minimal: one program, no shell, no set-uid bit, no user of the building machine', {
    timeout: BUILD_MS,
  }, async (context) => {
    for (const { name, archive } of await built(context)) {
      const folder = join(directory, `unpacked-${name}`);
      mkdirSync(folder);
      execFileSync('tar', ['-xf', archive, '-C', folder]);
      const [{ Layers }] = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as [
        { Layers: string[] },
      ];
      const lines = Layers.flatMap((layer) =>
        execFileSync('tar', ['-tvzf', join(folder, layer), '--numeric-owner'])
          .toString()
          .trimEnd()
          .split('\n'),
      );
      expect(lines.filter((line) => /^.{2}[-rwx]*[sS]/.test(line))).toEqual([]);
      // All of root, but for the folder that the service may write to.
      expect(lines.filter((line) => !/^\S+ 0\/0 /.test(line)).map((line) => line.split(' ').at(-1))).toEqual([
        'var/lib/dstack/',
      ]);
      const programs = lines.filter((line) => /^-\S*x/.test(line)).map((line) => line.split(' ').at(-1));
      expect(programs.filter((path) => !/\.so\.[0-9.]+$/.test(path ?? ''))).toEqual(['usr/lib/dstack/node']);
    }
  });

  test('containers-run: a real engine loads each, names it by our digest, and runs it without any rights', {
    timeout: BUILD_MS,
  }, async (context) => {
    for (const { name, reference, archive, digest, image_id } of await built(context)) {
      expect(docker(engine.env, 'load', '--input', archive)).toContain(reference);
      expect(docker(engine.env, 'image', 'inspect', reference, '--format', '{{.Id}}').trim()).toBe(image_id);
      const help = docker(
        engine.env,
        'run',
        '--rm',
        '--network',
        'none',
        ...STRICT,
        reference,
        ...['--help'],
      );
      expect(help).toContain(name);
      // What a registry would call it: containerd takes the layout as it is.
      const ctr = (...args: string[]) =>
        execFileSync('ctr', [
          '--address',
          engine.containerd,
          '--namespace',
          'test',
          'images',
          ...args,
        ]).toString();
      ctr('import', archive);
      expect(ctr('list', `name==docker.io/library/${reference}`)).toContain(digest);
    }
  });

  test('containers-documented: the commands of the page work as they are written', {
    timeout: BUILD_MS,
  }, async (context) => {
    await built(context);
    const [make, ...others] = shellBlocks('docs/containers.md');
    // The first is the one that every test here begins with.
    expect(make).toBe('dstack-cloud image container --output containers');
    for (const block of others) {
      const { code, stderr } = await runCommand(['bash', '-e', '-c', block], {
        cwd: directory,
        env: engine.env,
        timeoutMs: 60_000,
      });
      expect([code, stderr]).toEqual([0, expect.any(String)]);
    }
  });

  test('containers-kms: the KMS makes keys on its volume and answers GetMeta, read-only and without capabilities', {
    timeout: BUILD_MS,
  }, async (context) => {
    const kms = (await built(context)).find(({ name }) => name === 'dstack-kms')!;
    docker(engine.env, 'load', '--input', kms.archive);
    const port = await freePort();
    const config = join(directory, 'config');
    mkdirSync(config);
    writeLoneConfig(config, { port, certDir: 'certs', mountedAt: '/etc/kms' });
    const container = docker(
      engine.env,
      ...['run', '--detach', '--network', 'host', ...STRICT],
      ...['--volume', 'kms-data:/var/lib/dstack', '--volume', `${config}:/etc/kms:ro`],
      ...[kms.reference, '--config', '/etc/kms/kms.toml'],
    ).trim();
    const logs = () => docker(engine.env, 'logs', container);
    const url = `http://127.0.0.1:${port}`;
    await until(async () => (await fetch(`${url}/health`)).ok, logs);
    const made = await fetch(`${url}/prpc/Onboard.Bootstrap?json`, {
      method: 'POST',
      body: JSON.stringify({ domain: 'localhost' }),
    });
    expect([made.status, logs()]).toEqual([200, expect.any(String)]);
    expect((await fetch(`${url}/finish`)).ok).toBe(true);
    let meta: Record<string, unknown> = {};
    await until(async () => {
      const answer = await callKms(`https://127.0.0.1:${port}`, 'KMS.GetMeta');
      meta = JSON.parse(answer.body) as Record<string, unknown>;
      return answer.status === 200;
    }, logs);
    expect(meta).toMatchObject({ bootstrap_info: { k256_pubkey: expect.stringMatching(/^[0-9a-f]{66}$/) } });
    docker(engine.env, 'stop', '--time', '20', container);
    expect(
      docker(engine.env, 'inspect', container, '--format', '{{.State.ExitCode}} {{.Config.User}}').trim(),
    ).toBe('0 10001:10001');
  });
});

async function until(check: () => Promise<boolean>, state: () => string): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const error = await check().then(
      (ok) => (ok ? undefined : 'not yet'),
      (cause: unknown) => String(cause),
    );
    if (error === undefined) return;
    if (Date.now() > deadline) throw new Error(`${error}:\n${state()}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
