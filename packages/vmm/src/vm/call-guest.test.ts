import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { callGuest } from './call-guest.ts';

let runDir: string;
let guest: Server;
let answer: { status: number; body: string };
beforeEach(async () => {
  runDir = mkdtempSync(join(tmpdir(), 'vmm-guest-'));
  guest = createServer((_request, response) => {
    response.writeHead(answer.status);
    response.end(answer.body);
  });
  await new Promise<void>((resolve) => guest.listen(join(runDir, 'guest_8000.sock'), resolve));
});
afterEach(() => {
  guest.close();
  rmSync(runDir, { recursive: true });
});

describe('what a guest answers its host', () => {
  it.each([
    ['an object', 200, '{"containers":[]}', { containers: [] }],
    ['nothing', 200, '', {}],
  ])('is taken when it is %s', async (_name, status, body, value) => {
    answer = { status, body };
    expect(await callGuest(runDir, 'ListContainers')).toEqual(value);
  });

  it.each([
    ['no JSON', 200, '<html>', 'boot_failed', /ListContainers with something that is no JSON/],
    ['a refusal', 500, 'no', 'boot_failed', /refuses ListContainers: no/],
    ['without end', 200, ' '.repeat(9 * 2 ** 20), 'not_running', /more than 8388608 bytes/],
  ])('is an error of ours when it is %s', async (_name, status, body, code, message) => {
    answer = { status, body };
    await expect(callGuest(runDir, 'ListContainers')).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });
});
