import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@dstack-cloud/guest-agent';
import { describeWithFixtures, fixturePath } from '@dstack-cloud/test/fixtures';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readOptions } from './options.ts';
import { type RunningSimulator, startSimulator } from './start-simulator.ts';

const log = createLogger('test');
log.level = 'silent';
const running: RunningSimulator[] = [];
let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dstack-simulator-'));
});
afterEach(async () => {
  for (const simulator of running.splice(0)) await simulator.close();
  rmSync(directory, { recursive: true, force: true });
});

async function start(...argv: string[]): Promise<RunningSimulator> {
  const options = readOptions([directory, ...argv]);
  if (typeof options === 'string') throw new Error(options);
  const simulator = await startSimulator(options, log);
  running.push(simulator);
  return simulator;
}

interface Answer {
  readonly status: number | undefined;
  readonly server: string;
  readonly body: Record<string, unknown>;
}

function call(
  at: { socketPath: string } | { port: number },
  path: string,
  body: object = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json' };
    const outgoing = request({ ...at, path, method: 'POST', headers, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.once('end', () =>
        resolve({
          status: response.statusCode,
          server: String(response.headers['server']),
          body: JSON.parse(text),
        }),
      );
    });
    outgoing.once('error', reject);
    outgoing.end(JSON.stringify(body));
  });
}

describe('a simulator with an identity of its own', () => {
  it('serves every service, says that it is simulated, and keeps its keys over a restart', async () => {
    const first = await start();
    expect(first).toMatchObject({ simulated: true, identity: 'own' });
    const { sockets } = first;
    const key = await call({ socketPath: sockets.dstack }, '/GetKey', { path: 'wallet' });
    expect(key.server).toBe('dstack Simulator');
    expect(key.body['key']).toMatch(/^[0-9a-f]{64}$/);
    const inherited = await call({ socketPath: sockets.tappd }, '/prpc/Tappd.GetKey', { path: 'wallet' });
    expect(inherited.body).toEqual(key.body);
    const derived = await call({ socketPath: sockets.tappd }, '/prpc/Tappd.DeriveKey', { path: 'wallet' });
    expect(derived.body['key']).toContain('PRIVATE KEY');
    expect((await call({ socketPath: sockets.external }, '/prpc/Worker.Version')).status).toBe(200);
    expect((await call({ socketPath: sockets.guest }, '/api/Info')).status).toBe(200);
    expect(readFileSync(first.rootFile ?? '', 'utf8')).toContain('BEGIN CERTIFICATE');
    await first.close();
    const again = await start();
    expect(
      (await call({ socketPath: again.sockets.dstack }, '/GetKey', { path: 'wallet' })).body['key'],
    ).toBe(key.body['key']);
  });

  it('extends a register with EmitEvent, as hardware does', async () => {
    const { sockets } = await start();
    const rtmr3 = async (): Promise<unknown> => {
      const { body } = await call({ socketPath: sockets.dstack }, '/GetQuote', { report_data: '00' });
      return body['rtmr3'];
    };
    const before = await rtmr3();
    await call({ socketPath: sockets.dstack }, '/EmitEvent', { event: 'mine', payload: '01' });
    expect(await rtmr3()).not.toBe(before);
  });

  it('serves both sockets by TCP', async () => {
    const { url = '' } = await start('--listen', '127.0.0.1:0');
    const port = Number(new URL(url).port);
    expect((await call({ port }, '/GetKey')).status).toBe(200);
    expect((await call({ port }, '/prpc/Tappd.DeriveKey')).status).toBe(200);
  });

  it('measures the application that it is given, and refuses one with a key provider', async () => {
    const file = join(directory, 'app-compose.json');
    const compose = {
      manifest_version: 2,
      name: 'mine',
      runner: 'docker-compose',
      docker_compose_file: 'services:\n  a:\n    image: x\n',
      key_provider: 'none',
    };
    writeFileSync(file, JSON.stringify(compose));
    const simulator = await start('--app-compose', file);
    const { body } = await call({ socketPath: simulator.sockets.dstack }, '/Info');
    expect(body['app_name']).toBe('mine');
    await simulator.close();
    writeFileSync(file, JSON.stringify({ ...compose, key_provider: 'kms' }));
    await expect(start('--app-compose', file)).rejects.toThrow('set "key_provider": "none"');
  });
});

describeWithFixtures('a simulator with a recorded identity', 'simulator/attestation.bin', () => {
  const KEY = 'f6c1ed94488394d78e0a4e5ab75d62e9f085d73b0b555d0614fb90ca13d9464d';
  const key = async ({ sockets }: RunningSimulator): Promise<unknown> =>
    (await call({ socketPath: sockets.dstack }, '/GetKey', { path: '/', purpose: 'test' })).body['key'];

  it('serves the files of a folder', async () => {
    const simulator = await start('--fixture', fixturePath('simulator'));
    expect(simulator.identity).toBe('fixture');
    expect(await key(simulator)).toBe(KEY);
  });

  it("is configured by the original's dstack.toml, whose folder the sockets may share", async () => {
    for (const name of [
      'appkeys.json',
      'app-compose.json',
      'sys-config.json',
      'attestation.bin',
      'dstack.toml',
    ])
      writeFileSync(join(directory, name), readFileSync(fixturePath(`simulator/${name}`)));
    expect(await key(await start())).toBe(KEY);
  });

  it('a broken fixture is named', async () => {
    for (const name of ['app-compose.json', 'sys-config.json', 'attestation.bin'])
      writeFileSync(join(directory, name), readFileSync(fixturePath(`simulator/${name}`)));
    await expect(start('--fixture', directory)).rejects.toThrow('The fixture has no');
    writeFileSync(join(directory, 'appkeys.json'), '{}');
    await expect(start('--fixture', directory)).rejects.toThrow(/appkeys|keys/i);
    writeFileSync(join(directory, 'appkeys.json'), readFileSync(fixturePath('simulator/appkeys.json')));
    writeFileSync(join(directory, 'attestation.bin'), 'broken');
    await expect(start('--fixture', directory)).rejects.toThrow();
    await expect(start('--config', join(directory, 'sys-config.json'))).rejects.toThrow('is not TOML');
  });
});

describe('folders and arguments that cannot be used', () => {
  it('a socket that is something else', async () => {
    mkdirSync(join(directory, 'dstack.sock'));
    await expect(start()).rejects.toThrow(/dstack\.sock is a folder, not a socket/);
    rmSync(join(directory, 'dstack.sock'), { recursive: true });
    writeFileSync(join(directory, 'tappd.sock'), 'mine');
    await expect(start()).rejects.toThrow(/tappd\.sock is a file/);
    rmSync(join(directory, 'tappd.sock'));
    symlinkSync('/nowhere', join(directory, 'guest.sock'));
    await expect(start()).rejects.toThrow(/guest\.sock is a symbolic link/);
  });

  it('a path that is too long for a socket, and a file in the place of the folder', async () => {
    const plain = directory;
    directory = join(plain, 'x'.repeat(100));
    await expect(start()).rejects.toThrow(/at most 10[37]/);
    directory = join(plain, 'file');
    writeFileSync(directory, '');
    await expect(start()).rejects.toThrow('a file is in its way');
    directory = plain;
  });

  it('a simulator that already runs there, and two that start at once', async () => {
    const outcomes = await Promise.allSettled([start(), start()]);
    expect(outcomes.filter(({ status }) => status === 'fulfilled').length).toBeLessThanOrEqual(1);
    const refusal = outcomes.find((outcome) => outcome.status === 'rejected');
    expect(String(refusal?.reason)).toMatch(/already (runs|serves)/);
    if (running.length === 0) await start();
    await expect(start()).rejects.toThrow(/already serves .*dstack\.sock/);
  });

  it('arguments', () => {
    expect(() => readOptions(['a', 'b'])).toThrow('One folder is wanted');
    expect(() => readOptions(['--fixtures', 'x'])).toThrow('--fixtures');
    expect(() => readOptions(['--fixture', 'a', '--app-compose', 'b'])).toThrow('leave out --app-compose');
  });

  it('an address that is none', async () => {
    await expect(start('--listen', 'nonsense')).rejects.toThrow('is not HOST:PORT');
  });
});
