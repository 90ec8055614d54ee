import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { lineSplitter } from '../logs/log-file.ts';
import { QmpClient, type QmpEvent } from './qmp-client.ts';

let dir: string;
let server: Server | undefined;
const path = (): string => join(dir, 'qmp.sock');
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'qmp-'));
});
afterEach(() => {
  server?.close();
  rmSync(dir, { recursive: true, force: true });
});

async function qemu(answers: Readonly<Record<string, object | 'end'>>): Promise<void> {
  server = createServer((socket) => {
    socket.write('{"QMP":{"version":{},"capabilities":[]}}\r\n');
    const splitter = lineSplitter((line) => {
      const { execute, id } = JSON.parse(line) as { execute: string; id: number };
      const answer = answers[execute] ?? { return: {} };
      if (answer === 'end') socket.destroy();
      else
        socket.write(
          `{"event":"RESUME","data":{"of":"${execute}"}}\r\n${JSON.stringify({ ...answer, id })}\r\n`,
        );
    });
    socket.on('data', (chunk) => splitter.write(chunk as Uint8Array));
  });
  await new Promise<void>((resolve) => server?.listen(path(), resolve));
}

it('answers commands, tells events, and says what QEMU refuses', async () => {
  await qemu({
    'query-status': { return: { status: 'running' } },
    cont: { error: { desc: 'not now' } },
    quit: 'end',
  });
  const events: QmpEvent[] = [];
  const client = await QmpClient.open(
    path(),
    (event) => events.push(event),
    () => true,
  );
  expect(await client.command('query-status')).toEqual({ status: 'running' });
  expect(events.at(-1)).toEqual({ name: 'RESUME', data: { of: 'query-status' } });
  await expect(client.command('cont')).rejects.toThrow('QEMU refuses: not now');
  await expect(client.command('quit')).rejects.toMatchObject({ code: 'not_running' });
  await expect(client.command('cont')).rejects.toMatchObject({ code: 'not_running' });
});

it('waits for nobody who has ended', async () => {
  await expect(
    QmpClient.open(
      path(),
      () => undefined,
      () => false,
    ),
  ).rejects.toMatchObject({
    code: 'start_failed',
  });
});
