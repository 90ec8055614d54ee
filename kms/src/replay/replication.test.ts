/** The recorded replication between two originals: ours on either side, and the relay. */
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RunningKms } from '../start-kms.ts';
import { forgeCertificate } from '../test/forge-certificate.ts';
import { type Lab, openLab } from '../test/lab.ts';
import { type Receiver, startReceiver } from '../test/receiver.ts';
import { type FullItem, fullItems } from '../test/recorded-full.ts';
import { recordedDirectory, writeRecordedDirectory } from '../test/recorded-kms.ts';
import { replay } from '../test/replay-item.ts';
import { observations } from '../test/replay-plan.ts';
import { agentOf } from '../test/simulated-guest.ts';
import { startWebhook, type Webhook } from '../test/webhook.ts';

const FILE = 'onboard-replication';
const ALLOW = { body: { isAllowed: true, gatewayAppId: '', reason: '' } };
const observed = (id: string): Record<string, unknown> =>
  observations(FILE).find((item) => item.id === id) as unknown as Record<string, unknown>;
const namesIn = (directory: string): string[] => (existsSync(directory) ? readdirSync(directory).sort() : []);

describeWithFixtures('replay of replication', `kms-original/full/${FILE}.json`, () => {
  let lab: Lab;
  let sourceAuth: Webhook;
  let source: RunningKms;
  let bare: RunningKms;
  let receiver: Receiver;
  const servers: Server[] = [];

  beforeAll(async () => {
    lab = await openLab();
    sourceAuth = await startWebhook(ALLOW, ALLOW);
    // The source runs on the very directory of the original that was the source in the recording.
    const directory = join(lab.directory, 'kmsA');
    writeRecordedDirectory(directory, recordedDirectory('kmsA'));
    source = await lab.start({
      directory,
      core: { auth_api: { type: 'webhook', webhook: { url: sourceAuth.url } } },
    });
    bare = await lab.start({ core: { attest_rpc_cert: false } });
    receiver = await startReceiver(lab, join(lab.directory, 'kmsB'), {}, { agent: receiverAgent() });
  });
  afterAll(async () => {
    for (const server of servers) server.close();
    await lab.close();
    sourceAuth.close();
  });

  const receiverAgent = () => agentOf(lab.guest({ appId: new Uint8Array(20).fill(0xc2) }));
  const deny = (reason: string) => ({ body: { isAllowed: false, gatewayAppId: '', reason } });
  /** Denies the guest of this app id, by the question's body. */
  const denyApp = (prefix: string, reason: string) => (body: string) =>
    (JSON.parse(body) as { appId: string }).appId.startsWith(prefix) ? deny(reason) : undefined;

  /** The recording denies by measurement: of the source, of the receiver. */
  function policies({ id }: FullItem): { source?: Webhook['policy']; receiver?: Webhook['policy'] } {
    if (id === 'source-policy-denies-receiver')
      return { source: { kms: denyApp('c2', 'Aggregated MR not allowed') } };
    if (id === 'source-policy-denies-itself') return { source: { kms: denyApp('c1', 'self not allowed') } };
    if (id === 'receiver-policy-denies-source') {
      return { receiver: { kms: denyApp('c1', 'Aggregated MR not allowed') } };
    }
    if (id === 'receiver-auth-500') return { receiver: { kms: { status: 500, raw: 'x' } } };
    return {};
  }

  function bodyOf({ request }: FullItem): string {
    return (request?.body?.utf8 ?? '')
      .replace('https://127.0.0.1:21200', `https://127.0.0.1:${source.main.port}`)
      .replace('https://127.0.0.1:21230', `https://127.0.0.1:${bare.main.port}`)
      .replace('http://127.0.0.1:21100', sourceAuth.url);
  }

  async function send(item: FullItem, onboarding: Receiver = receiver, body = bodyOf(item)): Promise<void> {
    const main = item.listener === 'main';
    const policy = policies(item);
    sourceAuth.policy = policy.source ?? {};
    const kms = { webhook: lab.webhook, clock: { now: 0 }, clientOf: () => undefined };
    const port = main ? (await receiver.serving).main.port : onboarding.port;
    const info = { body: { status: 'ok', kmsContractAddr: '0x00000000000000000000000000000000000000c1' } };
    await replay(kms, FILE, item, {
      port,
      plain: !main,
      policy: { info, ...policy.receiver },
      body,
      ...(item.id === 'getmeta-of-replica' ? { compare: sameRoot } : {}),
    });
  }

  function sameRoot(recorded: unknown, found: unknown): void {
    const root = (meta: unknown): unknown => (meta as { k256_pubkey: string }).k256_pubkey;
    expect(root(found)).toBe(root(recorded));
    const { ca_pubkey: ca } = JSON.parse(recordedDirectory('kmsA').files['bootstrap-info.json']!.text!) as {
      ca_pubkey: string;
    };
    // The original's replica has no bootstrap record; ours has the source's, which names the same keys (6.4).
    expect(found).toMatchObject({ bootstrap_info: { ca_pubkey: ca } });
  }

  // In the recorded order; what was looked at in between is looked at in between here too.
  const steps = fullItems(FILE).filter(
    ({ id }) => !['onboard-through-proxy', 'stored-k256-root-is-attackers'].includes(id),
  );
  const looks: Record<string, () => Promise<void> | void> = {
    'files-after-failures': () => {
      expect(namesIn(receiver.directory)).toEqual(observed('files-after-failures')['files']);
    },
    'files-after-onboard': () => {
      const files = observed('files-after-onboard')['files'] as Record<string, string>;
      for (const [name, mode] of Object.entries(files)) {
        const { mode: found } = statSync(join(receiver.directory, name));
        expect([name, `0o${(found & 0o777).toString(8)}`]).toEqual([name, mode]);
      }
    },
    'files-equal-to-source': async () => {
      const equal = observed('files-equal-to-source')['equal'] as Record<string, boolean>;
      await receiver.serving;
      const sourceDirectory = source.kms.config.core.cert_dir;
      for (const [name, same] of Object.entries(equal)) {
        const [a, b] = [sourceDirectory, receiver.directory].map((directory) =>
          readFileSync(join(directory, name)),
        );
        expect([name, a!.equals(b!)]).toEqual([name, same]);
      }
    },
  };
  test.each(steps)('$id', async (item) => {
    const look = looks[item.id];
    if (look !== undefined) await look();
    else await send(item);
  });

  test.each([1, 2])(
    'onboard-through-proxy and stored-k256-root-is-attackers: who relays %i and answers the next himself gets nothing',
    async (passed) => {
      const key = generateP256Key();
      const keys = { ca_key: p256KeyPem(generateP256Key()), k256_key: '01'.repeat(32) };
      let asked = 0;
      const attacker = createTlsServer(
        { key: p256KeyPem(key), cert: forgeCertificate(key, []) },
        (_, response) => {
          asked += 1;
          response.end(JSON.stringify({ temp_ca_key: p256KeyPem(generateP256Key()), keys: [keys] }));
        },
      );
      await once(attacker.listen(0, '127.0.0.1'), 'listening');
      const attackerPort = (attacker.address() as AddressInfo).port;
      let connections = 0;
      const relay = createServer((socket) => {
        connections += 1;
        // What comes before the keys takes two connections at once: the attacker has the second of them, or the third.
        const onward = connect(connections > passed ? attackerPort : source.main.port, '127.0.0.1');
        socket.pipe(onward).pipe(socket);
        for (const end of [socket, onward]) end.on('error', () => end.destroy());
      });
      await once(relay.listen(0, '127.0.0.1'), 'listening');
      servers.push(attacker as unknown as Server, relay);
      const victim = await startReceiver(
        lab,
        join(lab.directory, `kmsC-${passed}`),
        {},
        { agent: receiverAgent() },
      );
      const item = fullItems(FILE).find(({ id }) => id === 'onboard-through-proxy')!;
      const url = `https://127.0.0.1:${(relay.address() as AddressInfo).port}`;
      await send(item, victim, JSON.stringify({ source_url: url, domain: 'kms.lab.test' }));
      expect(observed('stored-k256-root-is-attackers')['value']).toBe(true);
      expect([connections > passed, asked, namesIn(victim.directory)]).toEqual([true, 0, []]);
      victim.stop.abort();
    },
  );
});
