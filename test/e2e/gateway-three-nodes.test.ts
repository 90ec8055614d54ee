/** Three gateways, each a program with a network of its own, and an etcd of three members. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fromHex } from '@dstack-cloud/encoding';
import { createPrpcClient, Gateway, httpTransport } from '@dstack-cloud/prpc';
import { type EtcdLab, startEtcd } from '@dstack-cloud/test/etcd-lab';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { newKeyPair } from '@dstack-cloud/wireguard';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { keyService } from '../harness/gateway-lab.ts';
import { type LabNode, makeNetwork, makeNode } from '../harness/gateway-nodes.ts';

const PORT = 20_000 + (process.pid % 1_500) * 8;

describeWithPrograms('three gateways of one state', ['etcd', 'openssl', 'wg', 'wireguard-go', 'ip'], () => {
  const folder = mkdtempSync(join(tmpdir(), 'gateway-three-'));
  const network = makeNetwork();
  const kms = keyService();
  const keys = new Map<number, string>();
  let etcd: EtcdLab;
  let nodes: LabNode[] = [];

  beforeAll(async () => {
    etcd = await startEtcd(join(folder, 'etcd'), PORT, `${network.net}.1`);
    nodes = [0, 1, 2].map((number) => makeNode({ number, folder, network, kms, etcd }));
    await Promise.all(nodes.map((node) => node.start()));
  }, 90_000);

  afterAll(async () => {
    etcd?.thaw();
    await Promise.all(nodes.map((node) => node.remove()));
    await etcd?.close();
    network.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it('gateway-three-nodes: a guest that registers at one node is known to all, with a tunnel to each', async () => {
    const { wg } = await register(0, 1);
    expect(wg?.servers.map(({ ip }) => ip).sort()).toEqual([
      '10.237.0.1/16',
      '10.237.0.2/16',
      '10.237.0.3/16',
    ]);
    for (const n of [0, 1, 2]) await expect.poll(() => known(n, 1), { timeout: 10_000 }).toBe(wg?.clientIp);
    // At another node, with the range of another: the same address.
    expect((await register(2, 1)).wg?.clientIp).toBe(wg?.clientIp);
  });

  it('gateway-registrations-at-once: many register everywhere at once, and nobody gets the address of another', async () => {
    const guests = Array.from({ length: 45 }, (_, n) => n + 10);
    const answers = await Promise.all(guests.map((n) => patiently(n % 3, n)));
    expect(new Set(answers.map(({ wg }) => wg?.clientIp)).size).toBe(guests.length);
    for (const n of [0, 1, 2]) await expect.poll(() => registered(n), { timeout: 10_000 }).toBe(46);
  });

  it('gateway-etcd-without-majority: routes stay, who is known is answered, and who is new is sent away soon', async () => {
    await register(0, 2);
    etcd.freeze([0, 1]);
    try {
      const started = performance.now();
      await expect(register(0, 100)).rejects.toThrow(/try the next gateway/);
      expect(performance.now() - started).toBeLessThan(6_000);
      expect((await register(0, 2)).wg?.clientIp).toBeDefined();
      expect(await registered(1)).toBeGreaterThanOrEqual(46);
    } finally {
      etcd.thaw();
    }
    await resumes(1, 100);
    await allAgree();
  }, 90_000);

  it('gateway-node-cut-off: its routes stay, registrations go on elsewhere, and it learns of them when it is back', async () => {
    const before = await registered(0);
    nodes[2]!.cut();
    try {
      await register(0, 200);
      // It knows who it knew, and has nobody that others have not.
      await sleep(3_000);
      expect(await registered(2)).toBe(before);
      // Its lease is over: guests are told of the others alone.
      await expect
        .poll(async () => (await register(0, 200)).wg?.servers.length, { timeout: 25_000, interval: 500 })
        .toBe(2);
    } finally {
      nodes[2]!.heal();
    }
    await expect.poll(() => registered(2), { timeout: 20_000 }).toBe(before + 1);
    await expect
      .poll(async () => (await register(0, 200)).wg?.servers.length, { timeout: 20_000, interval: 500 })
      .toBe(3);
    await allAgree();
  }, 60_000);

  it('gateway-node-killed: others go on, guests are told soon, and it comes back with all that was registered', async () => {
    const before = await registered(0);
    const pending = Array.from({ length: 12 }, (_, n) => patiently(n % 3, 300 + n).catch(() => undefined));
    await sleep(20);
    await nodes[1]!.kill();
    await Promise.all(pending);
    for (let n = 0; n < 12; n++) await patiently(n % 2 === 0 ? 0 : 2, 300 + n);
    await expect
      .poll(async () => (await register(0, 1)).wg?.servers.length, { timeout: 25_000, interval: 500 })
      .toBe(2);
    await nodes[1]!.start();
    for (const n of [0, 1, 2]) await expect.poll(() => registered(n), { timeout: 10_000 }).toBe(before + 12);
    await allAgree();
  }, 60_000);

  it('gateway-etcd-leader-killed: registrations resume, and nothing is lost or doubled', async () => {
    const before = await registered(0);
    await etcd.kill(await etcd.leader());
    await resumes(1, 101);
    for (const n of [0, 1, 2]) await expect.poll(() => registered(n), { timeout: 20_000 }).toBe(before + 1);
    await allAgree();
  }, 90_000);

  it('gateway-etcd-gone-at-start: a node that starts without etcd ends and says why, and starts when it is back', async () => {
    expect(await nodes[2]!.stop()).toBe(0);
    etcd.freeze([0, 1, 2]);
    try {
      await expect(nodes[2]!.start()).rejects.toThrow(/ended with 1: .*etcd does not answer/);
    } finally {
      etcd.thaw();
    }
    await expect
      .poll(
        () =>
          nodes[2]!.start().then(
            () => 'up',
            (error: Error) => error.message,
          ),
        { timeout: 20_000, interval: 500 },
      )
      .toBe('up');
    await allAgree();
  }, 60_000);

  /** Registers until it works: etcd may still be without a leader. */
  async function resumes(node: number, guest: number): Promise<void> {
    const ip = async (): Promise<string> =>
      (await register(node, guest).catch(() => undefined))?.wg?.clientIp ?? '';
    await expect.poll(ip, { timeout: 45_000, interval: 500 }).toMatch(/^10\.237\./);
    for (const n of [0, 1, 2])
      await expect.poll(() => known(n, guest), { timeout: 20_000 }).toMatch(/^10\.237\./);
  }

  /** The same guests at all nodes, each with an address and a tunnel of its own. */
  async function allAgree(): Promise<void> {
    const seen = async (n: number): Promise<string[]> =>
      (await hosts(n)).map(({ instanceId, ip }) => `${instanceId} ${ip}`).sort();
    const first = await seen(0);
    for (const n of [1, 2]) await expect.poll(() => seen(n), { timeout: 10_000 }).toEqual(first);
    expect(new Set((await hosts(0)).map(({ ip }) => ip)).size).toBe(first.length);
    const addresses = (await hosts(0)).map(({ ip }) => `${ip}/32`).sort();
    for (const node of nodes) await expect.poll(() => node.tunnels(), { timeout: 10_000 }).toEqual(addresses);
  }

  async function register(node: number, guest: number) {
    const clientPublicKey = keys.get(guest) ?? newKeyPair().publicKey;
    keys.set(guest, clientPublicKey);
    const tls = kms.client({ instanceId: fromHex(`${guest}`.padStart(40, '0')) });
    const { address, rpcPort } = nodes[node]!;
    const transport = httpTransport({ baseUrl: `https://${address}:${rpcPort}/prpc`, tls });
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

  async function known(node: number, guest: number): Promise<string> {
    return (await nodes[node]!.operator().getInfo({ id: `${guest}`.padStart(40, '0') })).info?.ip ?? '';
  }

  async function registered(node: number): Promise<number> {
    return (await nodes[node]!.operator().getMeta({})).registered;
  }

  async function hosts(node: number) {
    return (await nodes[node]!.operator().status({})).hosts;
  }
});
