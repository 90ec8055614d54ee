import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { toHex } from '@dstack-cloud/encoding';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Listener } from '../server/listen.ts';
import type { RunningKms } from '../start-kms.ts';
import { call } from '../test/ask.ts';
import { forgeCertificate } from '../test/forge-certificate.ts';
import { LAB_NOW, type Lab, openLab } from '../test/lab.ts';
import { writeRotatedDirectory } from '../test/rotated-directory.ts';
import { agentOf } from '../test/simulated-guest.ts';

let lab: Lab;
let source: RunningKms;
const servers: Server[] = [];
beforeAll(async () => {
  lab = await openLab();
  const first = join(lab.directory, 'source');
  source = await lab.start({
    directory: first,
    keys: false,
    core: { onboard: { auto_bootstrap_domain: 'localhost' } },
  });
});
afterEach(() => {
  lab.webhook.policy = {};
});
afterAll(async () => {
  for (const server of servers) server.close();
  await lab.close();
});

type Receiver = { port: number; serving: Promise<RunningKms>; stop: AbortController; directory: string };

async function receiver(name: string, onboard: Record<string, unknown> = {}): Promise<Receiver> {
  const stop = new AbortController();
  const directory = join(lab.directory, name);
  let up: (listener: Listener) => void = () => undefined;
  const listening = new Promise<Listener>((resolve) => {
    up = resolve;
  });
  const serving = lab.start({
    directory,
    keys: false,
    core: { onboard: { address: '127.0.0.1', port: 0, ...onboard } },
    options: {
      signal: stop.signal,
      onOnboarding: (listener) => up(listener),
      agent: agentOf(lab.guest({ appId: new Uint8Array(20).fill(0xc2) })),
    },
  });
  serving.catch(() => undefined);
  return { port: (await listening).port, serving, stop, directory };
}

const onboardFrom = (port: number, sourceUrl: string) =>
  call(port, 'Onboard', { source_url: sourceUrl, domain: '127.0.0.1' }, { plain: true });
const nothingOn = (directory: string): boolean =>
  !existsSync(directory) || readdirSync(directory).length === 0;

test('the history comes with the root, and a replica of the replica has it too', async () => {
  const directory = join(lab.directory, 'rotated-source');
  const keys = await writeRotatedDirectory(directory, 2, LAB_NOW);
  let from = await lab.start({ directory });
  for (const name of ['with-history', 'with-history-2']) {
    const { port, serving, directory: copied } = await receiver(name);
    const { status, json } = await onboardFrom(port, `https://localhost:${from.main.port}`);
    // What the configuration expects, and what is told, is the active root.
    expect([status, json['k256_pubkey']]).toEqual([200, toHex(keys.k256Pubkey)]);
    await call(port, 'Finish', {}, { plain: true });
    from = await serving;
    const got = from.kms.keys.history;
    expect(got.map(({ id, successor }) => [id, successor])).toEqual([
      [keys.history[0]!.id, keys.id],
      [keys.history[1]!.id, keys.history[0]!.id],
    ]);
    expect(got.map(({ roots }) => roots)).toEqual(keys.history.map(({ roots }) => roots));
    expect(readdirSync(join(copied, 'roots'))).toHaveLength(2);
  }
});

describe('replication (docs/protocol/kms.md section 6.3)', () => {
  test('copies the root; both sides are judged, the replica serves the same keys', async () => {
    const { port, serving } = await receiver('replica');
    lab.webhook.asked.length = 0;
    const { status, json } = await onboardFrom(port, `https://localhost:${source.main.port}`);
    expect([status, json['k256_pubkey']]).toEqual([200, toHex(source.kms.keys.k256Pubkey)]);
    const apps = lab.webhook.asked
      .filter(({ path }) => path === '/bootAuth/kms')
      .map(({ body }) => (JSON.parse(body) as { appId: string }).appId.slice(0, 2));
    expect(new Set(apps)).toEqual(new Set(['c1', 'c2']));
    await call(port, 'Finish', {}, { plain: true });
    const replica = await serving;
    expect(replica.kms.keys.roots).toEqual(source.kms.keys.roots);
    expect(replica.kms.keys.tempCa.key.spki).toEqual(source.kms.keys.tempCa.key.spki);
    expect(replica.kms.keys.rpcKey.spki).not.toEqual(source.kms.keys.rpcKey.spki);
    expect(replica.kms.keys.bootstrapInfo).toEqual(source.kms.keys.bootstrapInfo);
    const client = lab.client(lab.guest());
    const request = { api_version: 1, vm_config: '' };
    const [ours, theirs] = [
      await call(replica.main.port, 'GetAppKey', request, { client }),
      await call(source.main.port, 'GetAppKey', request, { client }),
    ];
    expect(ours.json['k256_key']).toBe(theirs.json['k256_key']);
    expect(ours.json['disk_crypt_key']).toBe(theirs.json['disk_crypt_key']);
  });

  test('a second time is refused', async () => {
    const { port, serving } = await receiver('twice');
    const url = `https://localhost:${source.main.port}/prpc/`;
    expect((await onboardFrom(port, url)).status).toBe(200);
    expect((await onboardFrom(port, url)).json['error']).toBe('KMS has already been onboarded');
    const bootstrap = await call(port, 'Bootstrap', { domain: 'localhost' }, { plain: true });
    expect(bootstrap.json['error']).toBe('KMS has already been bootstrapped');
    await call(port, 'Finish', {}, { plain: true });
    await serving;
  });

  test('a source that the policy does not know gives nothing', async () => {
    const { port, stop, directory } = await receiver('unknown-source');
    lab.webhook.policy = {
      kms: { body: { isAllowed: false, gatewayAppId: '', reason: 'Aggregated MR not allowed' } },
    };
    const { json } = await onboardFrom(port, `https://localhost:${source.main.port}`);
    expect(json['error']).toBe(
      'Failed to onboard: Source KMS is not allowed for onboarding: boot denied: Aggregated MR not allowed',
    );
    expect(nothingOn(directory)).toBe(true);
    stop.abort();
  });

  test('a source without evidence is refused', async () => {
    const bare = await lab.start({ core: { attest_rpc_cert: false } });
    const { port, stop, directory } = await receiver('bare-source');
    const { json } = await onboardFrom(port, `https://localhost:${bare.main.port}`);
    expect(json['error']).toBe('Failed to onboard: Source KMS certificate does not contain attestation');
    expect(nothingOn(directory)).toBe(true);
    stop.abort();
  });

  test('a source that is not there, or other keys than expected', async () => {
    const { port, stop } = await receiver('nowhere');
    expect((await onboardFrom(port, 'https://127.0.0.1:9')).json['error']).toMatch(/^Failed to onboard: /);
    expect((await onboardFrom(port, 'not a url')).status).toBe(400);
    stop.abort();
    const pinned = await receiver('pinned', { expected_k256_pubkey: `02${'11'.repeat(32)}` });
    const { json } = await onboardFrom(pinned.port, `https://localhost:${source.main.port}`);
    expect(json['error']).toMatch(/another k256 public key than core.onboard expects/);
    expect(nothingOn(pinned.directory)).toBe(true);
    pinned.stop.abort();
  });

  test('what the source answers is told, but its HTTP status is not ours', async () => {
    const { port, stop } = await receiver('misled');
    const url = `https://127.0.0.1:${source.main.port}`;
    const wrong = await onboardFrom(port, `${url}/elsewhere`);
    expect([wrong.status, wrong.json['error']]).toEqual([
      400,
      'Failed to onboard: The server answered HTTP status 404',
    ]);
    const query = await onboardFrom(port, `${url}?token=1`);
    expect([query.status, query.json['error']]).toEqual([
      400,
      'Failed to onboard: source_url must end with the path of the KMS, without query',
    ]);
    const endless = await onboardFrom(port, `https://127.0.0.1:1${'/'.repeat(60_000)}x`);
    expect([endless.status, endless.json['error']]).toEqual([
      400,
      'Failed to onboard: source_url is longer than 2048 characters',
    ]);
    const gone = await onboardFrom(port, 'https://127.0.0.1:1');
    expect([gone.status, gone.json['code']]).toEqual([400, 'UNAVAILABLE']);
    stop.abort();
  });

  test('onboard-relay: who passes on the first connection and answers the next one himself gets nowhere', async () => {
    const key = generateP256Key();
    let stolen = 0;
    const attacker = createTlsServer(
      { key: p256KeyPem(key), cert: forgeCertificate(key, []) },
      (_, response) => {
        stolen += 1;
        response.end(JSON.stringify({ temp_ca_key: '', keys: [] }));
      },
    );
    await once(attacker.listen(0, '127.0.0.1'), 'listening');
    const attackerPort = (attacker.address() as AddressInfo).port;
    // The connections up to the first answer go to the real source, whatever comes later to the attacker.
    let connections = 0;
    const relay = createServer((socket) => {
      connections += 1;
      const target = connections <= 2 ? source.main.port : attackerPort;
      const onward = connect(target, '127.0.0.1');
      socket.pipe(onward).pipe(socket);
      socket.on('error', () => onward.destroy());
      onward.on('error', () => socket.destroy());
    });
    await once(relay.listen(0, '127.0.0.1'), 'listening');
    servers.push(attacker as unknown as Server, relay);
    const { port, stop, directory } = await receiver('relayed');
    const { status, json } = await onboardFrom(
      port,
      `https://localhost:${(relay.address() as AddressInfo).port}`,
    );
    expect(status).toBe(400);
    expect(json['error']).toMatch(/^Failed to onboard: /);
    expect(connections).toBeGreaterThan(2);
    expect([stolen, nothingOn(directory)]).toEqual([0, true]);
    stop.abort();
  });
});
