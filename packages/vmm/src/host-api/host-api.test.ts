import { mkdtempSync, rmSync } from 'node:fs';
import { request, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MAX_NOTIFY_PAYLOAD, type Notification, startHostApi } from './host-api.ts';

let directory: string;
let server: Server;
let received: Notification[];
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'host-'));
  received = [];
  server = await startHostApi(join(directory, 'host.sock'), (notification) => received.push(notification));
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
  rmSync(directory, { recursive: true, force: true });
});

async function post(path: string, body: string): Promise<{ status: number; body: string }> {
  return await new Promise((resolve, reject) => {
    const outgoing = request(
      { socketPath: join(directory, 'host.sock'), path, method: 'POST' },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.once('end', () => resolve({ status: response.statusCode ?? 0, body: text }));
      },
    );
    outgoing.on('error', reject);
    outgoing.on('socket', (socket) => socket.on('error', () => undefined));
    outgoing.end(body);
  });
}
const notify = (event: unknown, payload: unknown) =>
  post('/api/Notify?json', JSON.stringify({ event, payload }));

describe('host API (docs/protocol/host-shared.md section 6)', () => {
  it('takes notifications', async () => {
    expect((await notify('boot.progress', 'requesting app keys')).status).toBe(200);
    expect(received).toEqual([{ event: 'boot.progress', payload: 'requesting app keys' }]);
  });

  it('drops a payload above the limit silently', async () => {
    expect((await notify('boot.error', 'x'.repeat(MAX_NOTIFY_PAYLOAD + 1))).status).toBe(200);
    expect((await notify('boot.error', 'x'.repeat(MAX_NOTIFY_PAYLOAD))).status).toBe(200);
    expect(received).toHaveLength(1);
  });

  it('says who it is', async () => {
    expect(JSON.parse((await post('/api/HostApi.Info?json', '{}')).body)).toMatchObject({
      name: 'dstack VMM',
    });
  });

  it.each([
    ['no JSON', '/api/Notify?json', 'hello'],
    ['a list', '/api/Notify?json', '[]'],
    ['an event without name', '/api/Notify?json', '{}'],
    ['numbers', '/api/Notify?json', '{"event":1,"payload":2}'],
    ['an event without end', '/api/Notify?json', JSON.stringify({ event: 'e'.repeat(200), payload: '' })],
    ['an unknown method', '/api/Reboot?json', '{}'],
    ['a key provider that is not there', '/api/GetSealingKey?json', '{}'],
  ])('refuses %s', async (_name, path, body) => {
    const answer = await post(path, body);
    expect(answer.status).toBe(400);
    expect(JSON.parse(answer.body)).toMatchObject({ error: expect.any(String) });
    expect(received).toEqual([]);
  });

  it('does not read a body without end', async () => {
    const outcome = await post('/api/Notify?json', 'x'.repeat(2_000_000)).catch(
      (error: Error) => error.message,
    );
    if (typeof outcome !== 'string') expect(outcome.status).toBe(400);
    expect(received).toEqual([]);
  });
});
