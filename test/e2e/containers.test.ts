/**
 * Applications in real containers: the guest agent through the mounted socket with the npm SDK, and machines that share
 * an engine and nothing else.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Dockerd, importNodeImage, startDockerd } from '../harness/dockerd.ts';
import { repository, runCommand } from '../harness/run-command.ts';
import { type Stack, startStack } from '../harness/stack.ts';

/** Uses every call of the SDK that an application needs, prints one line of JSON, stays up. */
const program = `
import { DstackClient } from '@phala/dstack-sdk';
const client = new DstackClient();
const info = await client.info();
const key = await client.getKey('wallet', 'signing');
const quote = await client.getQuote('hello');
const tls = await client.getTlsKey({ subject: 'app', altNames: ['localhost'], usageRaTls: true });
const signed = await client.sign('ed25519', 'text');
const verified = await client.verify('ed25519', 'text', signed.signature, signed.public_key);
console.log(JSON.stringify({ app_id: info.app_id, key: Buffer.from(key.key).toString('hex'), chain: key.signature_chain.length,
  quote: quote.quote.length, certificates: tls.certificate_chain.length, valid: verified.valid, secret: process.env.SECRET, key_file: process.env.KEY_FILE }));
setInterval(() => {}, 60000);
`;

const compose = `services:
  app:
    image: dstack-test/node:1
    command: ["node", "--input-type=module", "-e", ${JSON.stringify(program.replaceAll('$', '$$$$'))}]
    env_file: .env
    environment:
      SECRET: "\${SECRET}"
    volumes:
      - /var/run/dstack.sock:/var/run/dstack.sock
    stop_grace_period: 1s
`;

/** What quoting, interpolation and line ends could spoil. */
const KEY_FILE = '-----BEGIN-----\nit\'s "quoted"\n-----END-----';

/** Marks its volume and a folder of the machine when it is the first there, and answers with both marks. */
const server = `
const fs = require('node:fs');
const own = require('node:crypto').randomBytes(8).toString('hex');
const mark = (dir) => { const file = dir + '/owner'; if (!fs.existsSync(file)) fs.writeFileSync(file, own); return fs.readFileSync(file, 'utf8'); };
const marks = mark('/data') + ' ' + mark('/srv');
require('node:http').createServer((_, response) => response.end(marks)).listen(80, () => console.log('listening'));
process.on('SIGTERM', () => process.exit(0));
`;

/** Every name that could be shared is given. */
const shared = `services:
  web:
    image: dstack-test/node:1
    container_name: web
    command: ["node", "-e", ${JSON.stringify(server.replaceAll('$', '$$$$'))}]
    ports: ["80:80", "9000:9000"]
    volumes: ["data:/data", "/srv/shared:/srv"]
    networks: [front]
    stop_grace_period: 1s
volumes: { data: { name: data } }
networks: { front: { name: front } }
`;

const isRoot = process.getuid?.() === 0;

describeWithPrograms(
  'containers',
  ['dockerd', 'docker-compose', 'docker', ...(isRoot ? [] : ['root'])],
  () => {
    let stack: Stack;
    let engine: Dockerd;
    let directory: string;

    beforeAll(async () => {
      directory = mkdtempSync(join(tmpdir(), 'dstack-containers-'));
      engine = await startDockerd();
      importNodeImage(engine.env, 'dstack-test/node:1');
      stack = await startStack();
    }, 180_000);
    afterAll(async () => {
      await stack?.stop();
      await engine?.stop();
      rmSync(directory, { recursive: true, force: true });
    }, 90_000);

    test('sdk-in-container: the npm SDK works unchanged in a container, with a sealed environment', async () => {
      // The same configuration as the demo's, but with an engine.
      const config = JSON.parse(readFileSync(stack.config, 'utf8')) as { local: Record<string, unknown> };
      config.local['engine'] = 'docker';
      config.local['env'] = engine.env;
      const path = join(directory, 'config.json');
      writeFileSync(path, JSON.stringify(config), { mode: 0o600 });
      const cli = (...args: string[]) =>
        runCommand([join(repository, 'dist/bin/dstack-cloud'), '--json', ...args], {
          cwd: directory,
          env: { DSTACK_CLOUD_CONFIG: path, ...engine.env },
          timeoutMs: 120_000,
        });

      expect((await cli('new', 'contained')).code).toBe(0);
      const project = join(directory, 'contained');
      writeFileSync(join(project, 'docker-compose.yaml'), compose);
      writeFileSync(
        join(project, '.env'),
        `SECRET=only for this app\nKEY_FILE=${JSON.stringify(KEY_FILE)}\n`,
      );
      const deployed = await cli('-C', project, 'deploy');
      expect(deployed.code, deployed.stdout + deployed.stderr).toBe(0);

      const deadline = Date.now() + 30_000;
      let line: string | undefined;
      while (line === undefined && Date.now() < deadline) {
        const logs = await runCommand(
          [join(repository, 'dist/bin/dstack-cloud'), '-C', project, 'logs', '--container', 'app'],
          { env: { DSTACK_CLOUD_CONFIG: path } },
        );
        line = logs.stdout.split('\n').find((text) => text.includes('"app_id"'));
        if (line === undefined) await new Promise((resolve) => setTimeout(resolve, 500));
      }
      const answer = JSON.parse((line ?? '{}').replace(/^[^{]*/, '')) as Record<string, unknown>;
      const { app_id } = JSON.parse(readFileSync(join(project, 'app.json'), 'utf8')) as { app_id: string };
      expect(answer).toMatchObject({
        app_id,
        chain: 2,
        certificates: 3,
        valid: true,
        secret: 'only for this app',
        key_file: KEY_FILE,
      });
      expect(answer['key']).toMatch(/^[0-9a-f]{64}$/);
      const removed = await cli('-C', project, '--yes', 'remove');
      expect(removed.code, removed.stdout + removed.stderr).toBe(0);
    }, 240_000);

    /** A project without a key service, and the command line in it. */
    function makeProject(name: string, app: object, env: Record<string, string>, text = shared) {
      const project = join(directory, name);
      mkdirSync(project);
      const identity = { app_id: randomBytes(20).toString('hex'), instance_id_seed: '22'.repeat(20) };
      const config = { name: 'same', platform: 'local', os_image: 'dstack-sim-0.6.0', key_provider: 'none' };
      writeFileSync(join(project, 'app.json'), JSON.stringify({ ...config, ...identity, ...app }));
      writeFileSync(join(project, 'docker-compose.yaml'), text);
      const path = join(directory, 'alone.json');
      const local = { run_path: join(directory, 'vm'), seed_file: join(directory, 'seed') };
      writeFileSync(path, JSON.stringify({ local }), { mode: 0o600 });
      const cli = (args: string[], shell = env) =>
        runCommand([join(repository, 'dist/bin/dstack-cloud'), '--json', '-C', project, ...args], {
          env: {
            DSTACK_CLOUD_CONFIG: path,
            DOCKER_HOST: '',
            DOCKER_CONFIG: '',
            DOCKER_CONTEXT: '',
            ...shell,
          },
          timeoutMs: 120_000,
        });
      return { project, cli };
    }
    const state = (project: string) =>
      JSON.parse(readFileSync(join(project, 'state.json'), 'utf8')) as {
        machine_dir: string;
        urls: { app: string; agent: string };
      };
    const get = async (url: string) => (await fetch(url, { signal: AbortSignal.timeout(10_000) })).text();
    const docker = (...args: string[]) =>
      execFileSync('docker', args, { env: { ...process.env, ...engine.env }, encoding: 'utf8' }).trim();
    const left = (id: string) =>
      [
        ['ps', '-a'],
        ['volume', 'ls'],
        ['network', 'ls'],
      ].map((list) => docker(...list, '-q', '--filter', `label=com.docker.compose.project=dstack-${id}`));
    const machineId = (project: string) =>
      (
        JSON.parse(readFileSync(join(state(project).machine_dir, 'vm-manifest.json'), 'utf8')) as {
          id: string;
        }
      ).id;

    test('machines-apart: two machines of one name share no container, network, volume, path or port', async () => {
      // The engine by its address alone: compose is the program of that name, not a plugin.
      const env = { DOCKER_HOST: engine.env['DOCKER_HOST'] ?? '' };
      const [one, two] = ['one', 'two'].map((name) => makeProject(name, {}, env));
      if (one === undefined || two === undefined) throw new Error('two projects');
      for (const { cli } of [one, two]) {
        const { code, stdout, stderr } = await cli(['deploy']);
        expect(code, stdout + stderr).toBe(0);
        expect(JSON.parse(stdout)).toMatchObject({ silent_urls: [] });
        expect(stderr.match(/containers of this host's docker/g)).toHaveLength(1);
      }
      const urls = [one, two].map(({ project }) => state(project).urls);
      const [marksOfOne = '', marksOfTwo = ''] = await Promise.all(urls.map(({ app }) => get(app)));
      const all = [...marksOfOne.split(' '), ...marksOfTwo.split(' ')];
      expect(all.map((mark) => all.indexOf(mark))).toEqual([0, 0, 2, 2]);
      const [first, second] = [one, two].map(({ project }) => machineId(project));
      const pages = await Promise.all(urls.map(({ agent }) => get(agent)));
      expect(pages[0]).toContain(`dstack-${first}-web`);
      expect(pages[0]).not.toContain(`dstack-${second}`);
      const logs = (name: string) => get(`${urls[0]?.agent}/logs/${name}?text&bare`);
      expect(await logs(`dstack-${first}-web`)).toContain('listening');
      expect(await logs(`dstack-${second}-web`)).toContain('No such container');

      // What removes one leaves the other alone.
      expect((await one.cli(['--yes', 'remove'])).code).toBe(0);
      expect(left(first ?? '')).toEqual(['', '', '']);
      expect(left(second ?? '').map((ids) => ids !== '')).toEqual([true, true, true]);
      expect(await get(urls[1]?.app ?? '')).toBe(marksOfTwo);

      // Another shell, another engine in its environment: the machine keeps the one that has its data.
      const elsewhere = { DOCKER_HOST: 'unix:///nowhere/docker.sock' };
      expect((await two.cli(['stop'], elsewhere)).code).toBe(0);
      const started = await two.cli(['start'], elsewhere);
      expect(started.code, started.stdout + started.stderr).toBe(0);
      await expect
        .poll(() => get(state(two.project).urls.app).catch(() => ''), { timeout: 20_000 })
        .toBe(marksOfTwo);
      expect((await two.cli(['--yes', 'remove'], elsewhere)).code).toBe(0);
      expect(left(second ?? '')).toEqual(['', '', '']);
    }, 300_000);

    test('engine-chosen: app.json names the engine; one that does not answer is refused before anything is made', async () => {
      const env = { DOCKER_HOST: 'unix:///nowhere/docker.sock' };
      const { project, cli } = makeProject('chosen', { local_config: { engine: 'docker' } }, env);
      const refused = await cli(['deploy']);
      expect(refused.code).toBe(1);
      expect(refused.stdout + refused.stderr).toMatch(
        /Container engine docker cannot be used: docker does not answer/,
      );
      expect(existsSync(join(project, 'state.json'))).toBe(false);
      expect(existsSync(join(project, 'shared'))).toBe(false);

      // A context instead of an address.
      const home = join(directory, 'docker-home');
      const context = { DOCKER_CONFIG: home, DOCKER_CONTEXT: 'test' };
      execFileSync('docker', ['context', 'create', 'test', '--docker', `host=${engine.env['DOCKER_HOST']}`], {
        env: { ...process.env, DOCKER_CONFIG: home },
      });
      const deployed = await cli(['deploy'], context);
      expect(deployed.code, deployed.stdout + deployed.stderr).toBe(0);
      expect(await get(state(project).urls.app)).toMatch(/^[0-9a-f]{16} [0-9a-f]{16}$/);
      const removed = await cli(['--yes', 'remove'], {});
      expect(removed.code, removed.stdout + removed.stderr).toBe(0);
    }, 240_000);

    test('engine-gone: remove says that it cannot take the volumes along, and does without when it is forced', async () => {
      const env = { DOCKER_HOST: engine.env['DOCKER_HOST'] ?? '' };
      const { project, cli } = makeProject('gone', { local_config: { engine: 'docker' } }, env);
      expect((await cli(['deploy'])).code).toBe(0);
      const id = machineId(project);
      expect((await cli(['stop'])).code).toBe(0);
      const manifest = join(state(project).machine_dir, 'vm-manifest.json');
      writeFileSync(
        manifest,
        readFileSync(manifest, 'utf8').replace(env.DOCKER_HOST, 'unix:///nowhere/docker.sock'),
      );
      const refused = await cli(['--yes', 'remove']);
      expect(refused.code).toBe(1);
      expect(refused.stdout + refused.stderr).toContain('docker does not answer: the volumes of');
      expect(existsSync(manifest)).toBe(true);
      expect((await cli(['--yes', 'remove', '--force'])).code).toBe(0);
      expect(existsSync(manifest)).toBe(false);
      docker('volume', 'rm', ...left(id)[1]!.split('\n'));
    }, 240_000);
  },
);
