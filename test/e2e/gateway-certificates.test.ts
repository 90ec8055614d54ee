/** Certificates of two gateways of one state: a real authority, a real zone, a real etcd. */
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { rfc2136 } from '@dstack-cloud/certbot';
import { ACME_PROGRAMS, type AcmeLab, startAcmeLab } from '@dstack-cloud/test/acme-lab';
import { type EtcdLab, startEtcd } from '@dstack-cloud/test/etcd-lab';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type CountedAuthority, countedAuthority } from '../harness/acme-counter.ts';
import { getPage, keyService } from '../harness/gateway-lab.ts';
import { type LabNode, makeNetwork, makeNode } from '../harness/gateway-nodes.ts';

const PORT = 20_000 + (process.pid % 1_500) * 8;

describeWithPrograms(
  'certificates of two gateways',
  [...ACME_PROGRAMS, 'etcd', 'wg', 'wireguard-go', 'ip'],
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'gateway-certificates-'));
    const network = makeNetwork();
    let acme: AcmeLab;
    let authority: CountedAuthority;
    let etcd: EtcdLab;
    let nodes: LabNode[] = [];
    let base = '';

    beforeAll(async () => {
      const here = `${network.net}.1`;
      acme = await startAcmeLab('example.test', here);
      authority = await countedAuthority(folder, acme.directory, acme.caFile, here);
      etcd = await startEtcd(join(folder, 'etcd'), PORT, here);
      base = `apps.${acme.zone}`;
      writeFileSync(join(folder, 'zone.key'), acme.secret.toString('base64'), { mode: 0o600 });
      nodes = [0, 1].map((number) =>
        makeNode({
          number,
          folder,
          network,
          kms: keyService(),
          etcd,
          proxy: `base_domain = "${base}"`,
          tables: `[core.certbot]
enabled = true
acme_url = "${authority.directory}"
renew_interval = "2s"
caa_issuer = "ca.test"
[core.certbot.rfc2136]
server = "${here}:${acme.dnsPort}"
zone = "${acme.zone}"
key_name = "acme-key"
key_file = "${join(folder, 'zone.key')}"`,
          env: { NODE_EXTRA_CA_CERTS: authority.caFile },
        }),
      );
    }, 60_000);

    afterAll(async () => {
      await Promise.all(nodes.map((node) => node.remove()));
      await etcd?.close();
      authority?.close();
      await acme?.stop();
      network.close();
      rmSync(folder, { recursive: true, force: true });
    });

    it('gateway-renewal-under-lock: two nodes that start at once make one order, and show one certificate', async () => {
      await Promise.all(nodes.map((node) => node.start()));
      const shown = await bothShow();
      expect(authority.orders()).toBe(1);
      // An operator of each asks for another one at the same moment: one order more, shown by both.
      const renewed = await Promise.all(
        nodes.map(async (node) => (await node.operator().renewCert({})).renewed),
      );
      expect(renewed.filter(Boolean)).toHaveLength(1);
      expect(authority.orders()).toBe(2);
      await expect.poll(bothShowOne, { timeout: 20_000 }).not.toBe(shown);
      expect(authority.orders()).toBe(2);
    }, 60_000);

    it('gateway-renewal-holder-killed: the node that orders is killed, and the other orders when its lock is over', async () => {
      const before = await bothShow();
      const orders = authority.orders();
      const pending = nodes[0]!
        .operator()
        .renewCert({})
        .catch(() => undefined);
      await expect.poll(() => authority.orders(), { timeout: 20_000, interval: 5 }).toBe(orders + 1);
      await nodes[0]!.kill();
      await pending;
      await expect
        .poll(async () => (await nodes[1]!.operator().renewCert({})).renewed, {
          timeout: 40_000,
          interval: 1_000,
        })
        .toBe(true);
      expect(await spkiShown(nodes[1]!)).not.toBe(before);
      await nodes[0]!.start();
      await expect.poll(bothShowOne, { timeout: 20_000 }).toBe(await spkiShown(nodes[1]!));
    }, 60_000);

    it('gateway-caa-pinned: the domain lets the account of the gateways alone order, and an operator sets it right again', async () => {
      const { account_uri: uri } = await historyOf(nodes[0]!);
      const value = `ca.test;validationmethods=dns-01;accounturi=${uri}`;
      const caa = async (): Promise<unknown[]> =>
        ((await acme.records('CAA', base).catch(() => [])) as Record<string, unknown>[])
          .map(({ critical: _critical, ...record }) => record)
          .sort((one, other) => (JSON.stringify(one) < JSON.stringify(other) ? -1 : 1));
      const pinned = [{ issue: value }, { issuewild: value }];
      await expect.poll(caa, { timeout: 20_000 }).toEqual(pinned);
      const key = { name: 'acme-key', algorithm: 'hmac-sha256', secret: acme.secret } as const;
      const stranger = rfc2136({ host: `${network.net}.1`, port: acme.dnsPort, zone: acme.zone, key });
      await stranger.changeCaa(base, [{ tag: 'issue', value: 'other.test' }], [{ tag: 'issuewild', value }]);
      await nodes[1]!.operator().setCaa({});
      expect(await caa()).toEqual(pinned);
    });

    it('gateway-key-history-survives-upgrade: every key that was ever shown stays published when both nodes are restarted', async () => {
      const seen = new Set([await bothShow()]);
      await nodes[1]!.operator().renewCert({});
      await expect.poll(bothShowOne, { timeout: 20_000 }).not.toBe([...seen][0]);
      seen.add(await bothShow());
      // Its answer to strangers may be some seconds old.
      const published = async (): Promise<string[]> => (await historyOf(nodes[0]!)).hist_keys;
      await expect.poll(published, { timeout: 10_000 }).toEqual(expect.arrayContaining([...seen]));
      const before = await historyOf(nodes[0]!);
      for (const node of nodes) await node.stop();
      for (const node of nodes) await node.start();
      for (const node of nodes) {
        const after = await historyOf(node);
        expect(after.hist_keys).toEqual(before.hist_keys);
        expect(after.account_uri).toBe(before.account_uri);
        for (const key of seen) expect(after.hist_keys).toContain(key);
      }
      expect(seen).toContain(await bothShow());
    }, 60_000);

    type History = { readonly hist_keys: string[]; readonly account_uri: string };

    async function historyOf(node: LabNode): Promise<History> {
      const { address: host, proxyPort } = node;
      return JSON.parse(
        await getPage(proxyPort, `gateway.${base}`, { host, path: '/.dstack/acme-info' }),
      ) as History;
    }

    async function bothShow(): Promise<string> {
      await expect.poll(bothShowOne, { timeout: 45_000, interval: 200 }).not.toBe('');
      return await bothShowOne();
    }

    /** Hex of the key that both show; empty while they do not. */
    async function bothShowOne(): Promise<string> {
      const shown = await Promise.all(nodes.map((node) => spkiShown(node).catch(() => '')));
      return shown[0] === shown[1] ? (shown[0] ?? '') : '';
    }

    async function spkiShown({ address: host, proxyPort: port }: LabNode): Promise<string> {
      const client = connect({ host, port, servername: `gateway.${base}`, rejectUnauthorized: false });
      client.on('error', () => client.destroy());
      await Promise.race([once(client, 'secureConnect'), once(client, 'close')]);
      const shown = client.getPeerX509Certificate();
      client.destroy();
      return shown?.publicKey.export({ format: 'der', type: 'spki' }).toString('hex') ?? '';
    }
  },
);
