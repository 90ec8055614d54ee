import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromHex } from '@dstack-cloud/encoding';
import { createPrpcClient, Gateway, httpTransport, gateway as messages } from '@dstack-cloud/prpc';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { newKeyPair } from '@dstack-cloud/wireguard';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parseConfig } from './config/load-config.ts';
import { type RunningGateway, runGateway } from './gateway.ts';
import { authority } from './test/authority.ts';
import { type EtcdLab, startEtcd } from './test/etcd-lab.ts';
import { BASE, certificateFor, instance } from './test/lab.ts';

const TAG = `dt${process.pid}`;
const PORT = 20_000 + (process.pid % 900) * 12;
const log = pino({ level: 'silent' });

type Node = RunningGateway & { readonly stop: () => Promise<void> };

describeWithPrograms('gateway-three-nodes', ['etcd', 'wg', 'wireguard-go', 'ip'], () => {
  const folder = mkdtempSync(join(tmpdir(), 'gateway-three-'));
  const kms = authority('{}');
  let etcd: EtcdLab;
  let nodes: Node[] = [];

  beforeAll(async () => {
    for (const [name, { certChain, key }] of Object.entries({
      proxy: certificateFor(`*.${BASE}`),
      rpc: certificateFor('gateway.test'),
    })) {
      writeFileSync(join(folder, `${name}.pem`), certChain);
      writeFileSync(join(folder, `${name}.key`), key, { mode: 0o600 });
    }
    writeFileSync(join(folder, 'kms.pem'), kms.pem);
    etcd = await startEtcd(join(folder, 'etcd'), PORT);
    nodes = await Promise.all([0, 1, 2].map(start));
  }, 90_000);

  afterAll(async () => {
    etcd.thaw();
    await Promise.all(nodes.map(({ stop }) => stop()));
    await etcd.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it('a guest that registers at one node is known to all, with a tunnel to each', async () => {
    const key = newKeyPair().publicKey;
    const { wg } = await register(0, 1, key);
    expect(wg?.servers.map(({ ip }) => ip).sort()).toEqual([
      '10.237.0.1/16',
      '10.237.0.2/16',
      '10.237.0.3/16',
    ]);
    for (const n of [0, 1, 2]) {
      await expect.poll(() => known(n, 1), { timeout: 10_000 }).toBe(wg?.clientIp);
      // The peer is set after the route is known.
      await expect.poll(() => sh(`wg show ${TAG}n${n} allowed-ips`), { timeout: 10_000 }).toContain(key);
    }
    // At another node, with the range of another: the same address.
    expect((await register(2, 1, key)).wg?.clientIp).toBe(wg?.clientIp);
  });

  it('many register everywhere at once, and nobody gets the address of another', async () => {
    const guests = Array.from({ length: 45 }, (_, n) => n + 10);
    const answers = await Promise.all(guests.map((n) => patiently(n % 3, n)));
    expect(new Set(answers.map(({ wg }) => wg?.clientIp)).size).toBe(guests.length);
    for (const n of [0, 1, 2]) await expect.poll(() => registered(n), { timeout: 10_000 }).toBe(46);
  });

  it('while etcd has no majority, routes stay, who is known is answered, and who is new is sent away soon', async () => {
    const key = newKeyPair().publicKey;
    await register(0, 2, key);
    etcd.freeze([0, 1]);
    try {
      const started = performance.now();
      await expect(register(0, 100)).rejects.toThrow(/try the next gateway/);
      expect(performance.now() - started).toBeLessThan(6_000);
      expect((await register(0, 2, key)).wg?.clientIp).toBeDefined();
      expect(await registered(1)).toBeGreaterThanOrEqual(46);
    } finally {
      etcd.thaw();
    }
    await resumes(100);
  }, 90_000);

  it('when the leader of etcd is killed, registrations resume, and nothing is lost or doubled', async () => {
    const before = await registered(0);
    await etcd.kill(await etcd.leader());
    await resumes(101);
    for (const n of [0, 1, 2]) await expect.poll(() => registered(n), { timeout: 20_000 }).toBe(before + 1);
    const addresses = await Promise.all(
      [0, 1, 2].map(async (n) => (await hosts(n)).map(({ ip }) => ip).sort()),
    );
    expect(new Set(addresses[0]).size).toBe(before + 1);
    expect(addresses[1]).toEqual(addresses[0]);
    expect(addresses[2]).toEqual(addresses[0]);
  }, 90_000);

  it('a node that ends is in no answer any more, and the others go on', async () => {
    await nodes[2]!.stop();
    await expect
      .poll(async () => (await register(0, 1)).wg?.servers.length, { timeout: 20_000, interval: 500 })
      .toBe(2);
  }, 60_000);

  /** Registers until it works: etcd may still be without a leader. */
  async function resumes(guest: number): Promise<void> {
    const ip = async (): Promise<string> =>
      (await register(1, guest).catch(() => undefined))?.wg?.clientIp ?? '';
    await expect.poll(ip, { timeout: 45_000, interval: 500 }).toMatch(/^10\.237\./);
    for (const n of [0, 1, 2])
      await expect.poll(() => known(n, guest), { timeout: 20_000 }).toMatch(/^10\.237\./);
  }

  async function start(n: number): Promise<Node> {
    const at = (file: string): string => join(folder, file);
    const stop = new AbortController();
    mkdirSync(at(`state${n}`), { mode: 0o700 });
    const config = parseConfig(
      `port = ${PORT + 6 + n}
      tls = { key = "${at('rpc.key')}", certs = "${at('rpc.pem')}", mutual = { ca_certs = "${at('kms.pem')}" } }
      [core]
      state_path = "${at(`state${n}`)}"
      [core.admin]
      enabled = true
      [core.etcd]
      endpoints = ${JSON.stringify(etcd.options.endpoints)}
      ca = "${etcd.files.ca}"
      cert = "${etcd.files.cert}"
      key = "${etcd.files.key}"
      [core.proxy]
      base_domain = "${BASE}"
      listen_addr = "127.0.0.1"
      listen_port = ${PORT + 9 + n}
      cert_chain = "${at('proxy.pem')}"
      cert_key = "${at('proxy.key')}"
      [core.wg]
      interface = "${TAG}n${n}"
      driver = "userspace"
      listen_port = ${PORT + 9 + n}
      endpoint = "10.238.1.${n + 1}:51820"
      ip = "10.237.0.${n + 1}/16"
      reserved_net = ["10.237.0.0/27"]
      client_ip_range = "10.237.${16 * (n + 1)}.0/24"`,
      'gateway.toml',
    );
    return await new Promise((resolve, reject) => {
      const ended = runGateway(config, stop.signal, {
        log,
        ready: (running) =>
          resolve({
            ...running,
            stop: async () => {
              stop.abort();
              await ended;
            },
          }),
      });
      ended.catch(reject);
    });
  }

  const keys = new Map<number, string>();

  async function register(node: number, guest: number, key?: string) {
    const clientPublicKey = key ?? keys.get(guest) ?? newKeyPair().publicKey;
    keys.set(guest, clientPublicKey);
    const tls = kms.client({ instanceId: fromHex(instance(guest).instanceId) });
    const transport = httpTransport({ baseUrl: `https://127.0.0.1:${nodes[node]!.rpcPort}/prpc`, tls });
    try {
      return await createPrpcClient(Gateway, transport).registerCvm({ clientPublicKey });
    } finally {
      transport.close?.();
    }
  }

  /** As guests do: again when a busy etcd did not answer in time. */
  async function patiently(node: number, guest: number): ReturnType<typeof register> {
    for (let left = 20; ; left--) {
      try {
        return await register(node, guest);
      } catch (error) {
        if (left === 0 || !/try the next gateway/.test((error as Error).message)) throw error;
      }
    }
  }

  function operator(node: number) {
    const transport = httpTransport({ socketPath: nodes[node]!.admin!, baseUrl: 'http://localhost/prpc' });
    return createPrpcClient(messages.Admin, transport);
  }

  async function known(node: number, guest: number): Promise<string> {
    return (await operator(node).getInfo({ id: instance(guest).instanceId })).info?.ip ?? '';
  }

  async function registered(node: number): Promise<number> {
    return (await operator(node).getMeta({})).registered;
  }

  async function hosts(node: number) {
    return (await operator(node).status({})).hosts;
  }
});

function sh(line: string): string {
  return execFileSync('sh', ['-c', line], { encoding: 'utf8' }).trim();
}
