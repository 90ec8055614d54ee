/** Container images that travel with the project: a machine without a registry runs exactly what the compose file names. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type BusyboxImage, busyboxImage } from '../harness/busybox-image.ts';
import { type Dockerd, docker, startDockerd } from '../harness/dockerd.ts';
import { type Outcome, repository, runCommand } from '../harness/run-command.ts';

const isRoot = process.getuid?.() === 0;
const programs = ['dockerd', 'docker-compose', 'docker', 'busybox', 'tar', ...(isRoot ? [] : ['root'])];

describeWithPrograms('images without a registry', programs, () => {
  let engine: Dockerd;
  let directory: string;
  let project: string;
  let pinned: BusyboxImage;
  let tagged: BusyboxImage;
  let other: BusyboxImage;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'dstack-offline-'));
    engine = await startDockerd();
    const local = { run_path: join(directory, 'vm'), seed_file: join(directory, 'seed'), engine: 'docker' };
    writeFileSync(
      join(directory, 'config.json'),
      JSON.stringify({ platform: 'local', local: { ...local, env: engine.env } }),
      { mode: 0o600 },
    );
    // What is refused is refused whatever the engine.
    writeFileSync(
      join(directory, 'plain.json'),
      JSON.stringify({ platform: 'local', local: { ...local, engine: 'process' } }),
      { mode: 0o600 },
    );
    pinned = await busyboxImage('docker.io/example/pinned:1', 'pinned');
    tagged = await busyboxImage('docker.io/example/tagged:1', 'tagged');
    // Of the same name as the first, and something else.
    other = await busyboxImage('docker.io/example/pinned:1', 'other');
    expect((await cli('new', 'app', '--key-provider', 'none')).code).toBe(0);
    project = join(directory, 'app');
    for (const [name, { archive }] of Object.entries({ pinned, tagged, other }))
      writeFileSync(join(project, `${name}.tar`), archive);
    // The same image as a folder.
    mkdirSync(join(project, 'layout'));
    execFileSync('tar', ['-xf', join(project, 'tagged.tar'), '-C', join(project, 'layout')]);
  }, 120_000);
  afterAll(async () => {
    await cli('-C', project, 'stop');
    await engine?.stop();
    rmSync(directory, { recursive: true, force: true });
  }, 90_000);

  const cliWith = async (config: string, ...args: string[]): Promise<Outcome> =>
    await runCommand([join(repository, 'dist/bin/dstack-cloud'), '--json', '--yes', ...args], {
      cwd: directory,
      env: { DSTACK_CLOUD_CONFIG: join(directory, config) },
      timeoutMs: 240_000,
    });
  const cli = (...args: string[]): Promise<Outcome> => cliWith('config.json', ...args);

  /** Services that print what their image says and stay. */
  function describeProject(services: Record<string, string>, images: readonly string[]): void {
    const text = Object.entries(services).map(
      ([name, image]) =>
        `  ${name}:\n    image: ${image}\n    command: ["sh", "-c", "cat /text; exec sleep 600"]\n    restart: "no"\n    stop_grace_period: 1s\n    init: true\n`,
    );
    writeFileSync(join(project, 'docker-compose.yaml'), `services:\n${text.join('')}`);
    const path = join(project, 'app.json');
    const app = JSON.parse(readFileSync(path, 'utf8')) as { local_config?: object };
    writeFileSync(path, JSON.stringify({ ...app, local_config: { ...app.local_config, images } }));
  }

  const machine = (): string =>
    (JSON.parse(readFileSync(join(project, 'state.json'), 'utf8')) as { machine_dir: string }).machine_dir;

  const runningImages = (): string[] =>
    docker(engine.env, 'ps', '--quiet')
      .split('\n')
      .filter((id) => id !== '')
      .map((id) => docker(engine.env, 'inspect', id, '--format', '{{.Image}}').trim())
      .sort();

  test('images-named: by digest from an archive, by tag from a folder, by id; loaded once, kept apart by revision', async () => {
    describeProject({ one: `example/pinned:1@${pinned.digest}`, two: 'example/tagged:1', three: pinned.id }, [
      'pinned.tar',
      'layout',
    ]);
    const first = await cli('-C', project, 'deploy');
    expect(first.code, first.stdout + first.stderr).toBe(0);
    expect(runningImages()).toEqual([pinned.id, pinned.id, tagged.id].sort());
    const loads = () =>
      readFileSync(join(machine(), 'logs/serial.log'), 'utf8').match(/Loading the image/g)?.length;
    expect(loads()).toBe(2);
    const disks = () => readdirSync(machine()).filter((name) => /^images-/.test(name));
    expect(disks()).toHaveLength(1);
    // Nothing of the names on the disk reached the engine but those that the compose file asks for.
    expect(
      docker(engine.env, 'images', '--format', '{{.Repository}}:{{.Tag}}').trim().split('\n').sort(),
    ).toEqual(['<none>:<none>', 'example/tagged:1']);
    const [before] = disks();
    describeProject({ one: `example/pinned@${pinned.digest}` }, ['pinned.tar']);
    const second = await cli('-C', project, 'deploy');
    expect(second.code, second.stdout + second.stderr).toBe(0);
    expect(runningImages()).toEqual([pinned.id]);
    expect(loads()).toBe(2);
    expect(disks()).toHaveLength(1);
    expect(disks()).not.toEqual([before]);
  }, 240_000);

  test.each<[string, string, readonly string[], RegExp, RegExp]>([
    [
      'missing',
      'example/tagged:1',
      ['nothing.tar'],
      /nothing\.tar in local_config\.images does not exist/,
      /docker save/,
    ],
    ['of another digest', 'PINNED', ['other.tar'], /no image that the compose file names/, /sha256:/],
    [
      'outside of the project',
      'example/tagged:1',
      ['../../elsewhere.tar'],
      /leads out of the project/,
      /project/,
    ],
    ['a folder without images', 'example/tagged:1', ['.'], /cannot be used/, /docker save/],
    [
      'compressed',
      'example/tagged:1',
      ['tagged.tar.gz'],
      /compressed with gzip; decompress it first/,
      /docker save/,
    ],
  ])(
    'images-refused: an archive that is %s, before the machine is touched',
    async (_, image, images, message, hint) => {
      execFileSync('gzip', ['--keep', '--force', join(project, 'tagged.tar')]);
      describeProject({ one: image === 'PINNED' ? `example/pinned:1@${pinned.digest}` : image }, images);
      const { code, stdout } = await cliWith('plain.json', '-C', project, 'deploy');
      expect(code).toBe(1);
      const { error } = JSON.parse(stdout) as {
        error: { code: string; message: string; hint: string; found?: string };
      };
      expect([error.code, error.message]).toEqual(['bad_app_json', expect.stringMatching(message)]);
      expect(`${error.hint} ${error.found ?? ''}`).toMatch(hint);
    },
    60_000,
  );

  test('images-swapped: a host that changes the disk after the check runs nothing else under a digest', async () => {
    describeProject({ one: `example/pinned:1@${pinned.digest}` }, ['pinned.tar']);
    expect((await cli('-C', project, 'deploy')).code).toBe(0);
    expect((await cli('-C', project, 'stop')).code).toBe(0);
    docker(engine.env, 'image', 'rm', '--force', pinned.id);
    const [disk] = readdirSync(machine()).filter((name) => /^images-/.test(name));
    const path = join(machine(), disk!);
    const genuine = readFileSync(path);
    // The whole image is exchanged, with the name that it has: what is asked for is not there, and no registry has it.
    const swapped = Buffer.concat([genuine.subarray(0, 512), other.archive]);
    writeFileSync(path, Buffer.concat([swapped, Buffer.alloc(Math.max(0, genuine.length - swapped.length))]));
    expect((await cli('-C', project, 'start')).code).not.toBe(0);
    expect(runningImages()).toEqual([]);
    // Another configuration under the digest of the right one.
    const bytes = Buffer.from(genuine);
    const at = bytes.indexOf('"architecture":"amd64"');
    expect(at).toBeGreaterThan(0);
    bytes.write('"architecture":"amd65"', at);
    writeFileSync(path, bytes);
    const refused = await cli('-C', project, 'start');
    expect(refused.code).not.toBe(0);
    expect(refused.stdout + refused.stderr).toContain('other content under sha256:');
    expect(runningImages()).toEqual([]);
    // Another layer: the engine itself finds that it is not the one of the configuration.
    const layer = Buffer.from(genuine);
    layer.write('pinnex', layer.indexOf('pinned\0'));
    writeFileSync(path, layer);
    expect((await cli('-C', project, 'start')).code).not.toBe(0);
    expect(runningImages()).toEqual([]);
    writeFileSync(path, genuine);
    const again = await cli('-C', project, 'start');
    expect(again.code, again.stdout + again.stderr).toBe(0);
    expect(runningImages()).toEqual([pinned.id]);
  }, 240_000);
});
