/** Receivers that hang, are slow, lead elsewhere or answer without end. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import type { Severity } from '../alerts/alert.ts';
import { enqueue } from '../alerts/enqueue.ts';
import { StateStore } from '../state/state-store.ts';
import { Delivery, type Message } from './deliver.ts';
import { Webhook } from './webhook.ts';

const servers: Server[] = [];
const webhooks: Webhook[] = [];
afterEach(() => {
  for (const webhook of webhooks.splice(0)) webhook.close();
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

type Handler = (request: IncomingMessage, response: ServerResponse) => void;
async function serve(handle: Handler): Promise<string> {
  const server = createServer(handle);
  servers.push(server);
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
function hook(url: string, timeoutMs: number): Webhook {
  const webhook = new Webhook(url, 'secret', timeoutMs);
  webhooks.push(webhook);
  return webhook;
}
const tell = (store: StateStore, severity: Severity, ...ids: string[]): Promise<void> =>
  store.update((state) =>
    enqueue(
      state,
      ids.map((id) => ({ id, rule: 'r', severity, text: id, time: 1 })),
      { log: true, webhook: { minSeverity: 'info' }, maxWaiting: 1_000 },
    ),
  );
function lab(webhook: Webhook): { delivery: Delivery; store: StateStore; logged: string[] } {
  const store = StateStore.inMemory({ kms: '0x', fromBlock: 0 });
  const logged: string[] = [];
  const write = ({ id }: Message): void => void logged.push(id);
  const delivery = new Delivery({ store, webhook, write, now: () => 1, onFailure: () => undefined });
  return { delivery, store, logged };
}

test('a receiver that hangs keeps nothing from the log, and nothing is logged twice', async () => {
  let asked = 0;
  const { delivery, store, logged } = lab(hook(await serve(() => (asked += 1)), 60_000));
  await tell(store, 'info', 'first');
  void delivery.run().catch(() => undefined);
  await expect.poll(() => asked).toBe(1);
  for (const id of ['second', 'third']) {
    await tell(store, 'critical', id);
    void delivery.run().catch(() => undefined);
    await expect.poll(() => logged).toContain(id);
  }
  expect(logged).toEqual(['first', 'second', 'third']);
  expect(store.state.outbox.map(({ to }) => to)).toEqual([['webhook'], ['webhook'], ['webhook']]);
});

test('an alarm is posted before the many that came earlier', async () => {
  const posted: string[] = [];
  const url = await serve((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      posted.push((JSON.parse(body) as Message).id);
      const told = posted.length === 2 ? tell(store, 'critical', 'alarm') : Promise.resolve();
      void told.then(() => response.end());
    });
  });
  const { delivery, store } = lab(hook(url, 10_000));
  await tell(store, 'info', ...Array.from({ length: 20 }, (_, index) => `${index}`));
  await delivery.run();
  expect(posted.slice(0, 4)).toEqual(['0', '1', 'alarm', '2']);
  expect(posted).toHaveLength(21);
  // The alarm came after the log was written.
  expect(store.state.outbox.map(({ to }) => to)).toEqual([['log']]);
  await delivery.run();
  expect(store.state.outbox).toEqual([]);
});

test('a receiver that redirects, answers without end or too slowly has not taken it', async () => {
  let visits = 0;
  const elsewhere = await serve((_, response) => {
    visits += 1;
    response.end();
  });
  const endless = (every: number, text: string): Handler => {
    return (_, response) => {
      const timer = setInterval(() => response.write(text), every);
      response.once('close', () => clearInterval(timer));
    };
  };
  for (const [handle, why] of [
    [(_, response) => response.writeHead(307, { location: elsewhere }).end(), /answered HTTP 307/],
    [endless(1, 'x'.repeat(65_536)), /longer than 65536 bytes/],
    [endless(50, 'x'), /no answer within 500 ms/],
    [() => undefined, /no answer within 500 ms/],
  ] satisfies [Handler, RegExp][])
    await expect(hook(await serve(handle), 500).post('{}', 1)).rejects.toThrow(why);
  expect(visits).toBe(0);
});
