/** Endpoints that say which chain they are, and then stall, drip or flood: every command ends in time, and says why. */
import { writeFileSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { Sandbox } from '../testing.ts';

vi.setConfig({ testTimeout: 180_000 });

const KMS = `0x${'11'.repeat(20)}`;
const HASH = `0x${'22'.repeat(32)}`;
const ID = `0x${'33'.repeat(32)}`;
/** A key as providers put it into the path; no command may show it. */
const SECRET = 'k3y0fth3pr0vid3r';
/** More than anybody reads. */
const FLOOD_BYTES = 64 * 1024 * 1024;

type Mode = 'silent' | 'drip' | 'flood' | 'nonsense';

const box = new Sandbox();
const servers = new Map<Mode, { server: Server; url: string; written: () => number }>();

async function serve(mode: Mode): Promise<void> {
  let written = 0;
  const server = createServer((request, response) => {
    void (async () => {
      let body = '';
      for await (const chunk of request) body += String(chunk);
      const { id, method } = JSON.parse(body) as { id: number; method: string };
      response.setHeader('content-type', 'application/json');
      if (method === 'eth_chainId') response.end(JSON.stringify({ jsonrpc: '2.0', id, result: '0x7a69' }));
      else misbehave(mode, response, (bytes) => (written += bytes));
    })().catch(() => response.destroy());
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/${SECRET}`;
  servers.set(mode, { server, url, written: () => written });
}

function misbehave(mode: Mode, response: ServerResponse, count: (bytes: number) => void): void {
  if (mode === 'silent') return;
  if (mode === 'nonsense') {
    response.end('{"jsonrpc":"2.0"');
    return;
  }
  response.write('{"jsonrpc":"2.0","id":1,"result":"0x');
  if (mode === 'drip') {
    const timer = setInterval(() => response.write('0'), 100);
    response.once('close', () => clearInterval(timer));
    return;
  }
  const chunk = '0'.repeat(1024 * 1024);
  let left = FLOOD_BYTES;
  const pour = (): void => {
    while (left > 0 && !response.destroyed) {
      left -= chunk.length;
      count(chunk.length);
      if (!response.write(chunk)) {
        response.once('drain', pour);
        return;
      }
    }
    response.end('"}');
  };
  pour();
}

beforeAll(async () => {
  for (const mode of ['silent', 'drip', 'flood', 'nonsense'] as const) await serve(mode);
  const pcrs = { PCR0: '1'.repeat(96), PCR1: '2'.repeat(96), PCR2: '3'.repeat(96) };
  writeFileSync(box.path('measurements.json'), JSON.stringify({ Measurements: pcrs }));
});
afterAll(async () => {
  for (const { server } of servers.values()) {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
  box.remove();
});

const evidence = ['measurements.json', '--app-id', KMS];
const commands: readonly (readonly string[])[] = [
  ['gov', 'status'],
  ['gov', 'health'],
  ['gov', 'propose', 'kms:add-image', HASH],
  ['gov', 'approve', 'proposal.json'],
  ['gov', 'submit', 'proposal.json'],
  ['gov', 'execute', ID],
  ['gov', 'cancel', ID],
  ['gov', 'reject', 'proposal.json'],
  ['gov', 'emergency-revoke', 'image', HASH],
  ['gov', 'deploy', '--model', 'A'],
  ['measurement', 'plan', ...evidence],
  ['measurement', 'register', ...evidence],
];

describe.each(['silent', 'drip', 'flood', 'nonsense'] as const)('an endpoint that is %s', (mode) => {
  test('ends every command with an error that says so', async () => {
    const { url, written } = servers.get(mode)!;
    box.env = { RPC_URL: url, PRIVATE_KEY: '1'.repeat(64) };
    const outcomes = await Promise.all(
      commands.map(async (words) => ({
        words,
        ...(await box.run(...words, '--kms', KMS, '--network', 'test', '--yes', '--rpc-timeout', '2')),
      })),
    );
    for (const { words, code, stderr, stdout } of outcomes) {
      const said = `${words.join(' ')}: ${stderr}${stdout}`;
      expect(code, said).not.toBe(0);
      expect(said).toMatch(
        /cannot be (read|asked|reached)|does not answer|[Cc]hain (refuses|at )|gives no logs/,
      );
      expect(said).not.toContain(SECRET);
    }
    // Nobody took all that was poured.
    if (mode === 'flood') expect(written()).toBeLessThan(FLOOD_BYTES * commands.length);
  });
});
