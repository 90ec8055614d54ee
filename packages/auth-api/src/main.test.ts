/** The program: its arguments, its start, its end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type WebIdentity, webAuthority } from '@dstack-cloud/policy/test-support/web-certificate';
import { afterEach, describe, expect, test } from 'vitest';

const program = join(dirname(fileURLToPath(import.meta.url)), 'main.ts');
const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

type Run = { child: ChildProcess; output(): string; ended: Promise<number | null> };

function run(args: string[], environment: Record<string, string>): Run {
  const child = spawn(process.execPath, ['--import', 'tsx', '-C', '@dstack/source', program, ...args], {
    env: { PATH: process.env['PATH'] ?? '', ...environment },
    timeout: 20_000,
  });
  children.push(child);
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const ended = new Promise<number | null>((done) => child.once('close', (code) => done(code)));
  return { child, output: () => output, ended };
}

test('without a contract it says what to set', async () => {
  const { output, ended } = run([], {});
  expect(await ended).toBe(1);
  expect(output()).toContain('KMS_CONTRACT_ADDR is not set');
});

test('an unknown option is an error; --help is not', async () => {
  const wrong = run(['--prot', '1'], {});
  expect(await wrong.ended).toBe(1);
  const help = run(['--help'], {});
  expect(await help.ended).toBe(0);
  const source = readFileSync(join(import.meta.dirname, 'settings.ts'), 'utf8');
  const variables = [...source.matchAll(/^ {2}([A-Z_]+): /gm)].map(([, name = '']) => name);
  expect(variables.length).toBeGreaterThan(15);
  expect(variables.filter((name) => !help.output().includes(name))).toEqual([]);
});

test('--print-config hides the paths of RPC endpoints', async () => {
  const { output, ended } = run(['--print-config'], {
    KMS_CONTRACT_ADDR: `0x${'ab'.repeat(20)}`,
    ETH_RPC_URL: 'https://rpc.example/v2/SECRET',
  });
  expect(await ended).toBe(0);
  expect(output()).toContain('"https://rpc.example"');
  expect(output()).not.toContain('SECRET');
});

const body = JSON.stringify({
  mrAggregated: '55'.repeat(32),
  osImageHash: '77'.repeat(32),
  appId: '11'.repeat(20),
  composeHash: '22'.repeat(32),
  instanceId: '',
  deviceId: '44'.repeat(32),
});

test('starts, denies without its allow-list, stops on SIGTERM', async () => {
  const { child, output, ended } = run([], { AUTH_CONFIG_PATH: '/nowhere/auth-config.json', PORT: '0' });
  await expect.poll(output, { timeout: 15_000 }).toContain('Listening');
  const url = /"url":"([^"]+)"/.exec(output())?.[1];
  const response = await fetch(`${url}/bootAuth/app`, { method: 'POST', body });
  expect(await response.json()).toMatchObject({ isAllowed: false });
  child.kill('SIGTERM');
  expect(await ended).toBe(0);
});

test('a port in use is an error', async () => {
  const first = run([], { AUTH_CONFIG_PATH: '/nowhere', PORT: '0' });
  await expect.poll(first.output, { timeout: 15_000 }).toContain('Listening');
  const port = /"url":"http:\/\/127.0.0.1:(\d+)"/.exec(first.output())?.[1] ?? '';
  const second = run([], { AUTH_CONFIG_PATH: '/nowhere', PORT: port });
  expect(await second.ended).toBe(1);
  expect(second.output()).toContain('EADDRINUSE');
});

describe('an RPC endpoint behind TLS', () => {
  const authority = webAuthority();
  test.each<[string, WebIdentity, boolean]>([
    ['with a good certificate is asked', authority.issue(), true],
    ['with an expired one is not', authority.issue({ from: -7_200, to: -3_600 }), false],
  ])('%s', async (_, identity, isAsked) => {
    let questions = 0;
    const endpoint = createServer({ key: identity.key, cert: identity.cert }, (request, response) => {
      questions += 1;
      request.resume();
      response.writeHead(500).end();
    });
    await new Promise<void>((resolve) => endpoint.listen(0, '127.0.0.1', resolve));
    const directory = mkdtempSync(join(tmpdir(), 'auth-api-tls-'));
    try {
      const authorities = join(directory, 'ca.crt');
      writeFileSync(authorities, authority.cert);
      const { output } = run([], {
        NODE_EXTRA_CA_CERTS: authorities,
        KMS_CONTRACT_ADDR: `0x${'ab'.repeat(20)}`,
        ETH_RPC_URL: `https://127.0.0.1:${(endpoint.address() as AddressInfo).port}`,
        PORT: '0',
      });
      await expect.poll(output, { timeout: 15_000 }).toContain('Listening');
      const url = /"url":"(http:[^"]+)"/.exec(output())?.[1];
      const response = await fetch(`${url}/bootAuth/app`, { method: 'POST', body });
      expect(await response.json()).toMatchObject({
        isAllowed: false,
        reason: 'authorization backend unavailable',
      });
      expect(questions > 0).toBe(isAsked);
    } finally {
      endpoint.closeAllConnections();
      endpoint.close();
      rmSync(directory, { recursive: true });
    }
  });
});
