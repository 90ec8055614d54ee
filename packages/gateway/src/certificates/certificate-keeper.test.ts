import { describe, expect, it } from 'vitest';
import { CertificateStore } from '../proxy/certificate-store.ts';
import { openSqliteStore } from '../state/sqlite-store.ts';
import type { StateStore } from '../state/state-store.ts';
import { BASE, certificateFor } from '../test/lab.ts';
import { CertificateKeeper, type CertificateKeeperOptions } from './certificate-keeper.ts';

const DAY = 86_400;

describe('the certificate of a base domain', () => {
  it('is ordered once, shown, and shown again after a restart without an order', async () => {
    const { keeper, store, orders } = lab();
    expect(await keeper.load()).toBe(false);
    expect(await keeper.renew()).toBe(true);
    expect(await keeper.renew()).toBe(false);
    const again = lab({ store });
    expect(await again.keeper.load()).toBe(true);
    expect(again.certificates.contextFor(BASE)).toBeDefined();
    expect(await again.keeper.renew()).toBe(false);
    expect([orders.length, again.orders.length]).toEqual([1, 0]);
    expect(orders[0]).toMatchObject({ names: [`*.${BASE}`], account: { uri: 'https://ca.test/acct/1' } });
  });

  it('is renewed before it ends, by one order for all who ask at once', async () => {
    const { keeper, clock, orders } = lab();
    await keeper.renew();
    clock.now += 21 * DAY;
    expect(await Promise.all([keeper.renew(), keeper.renew(), keeper.renew()])).toEqual([true, true, true]);
    expect(orders).toHaveLength(2);
  });

  it('renewal-under-lock: two nodes of one state make one order, and both show it', async () => {
    const one = lab();
    const other = lab({ store: one.store });
    const stop = await other.keeper.follow(() => expect.unreachable());
    const renewed = await Promise.all([one.keeper.renew(), other.keeper.renew()]);
    expect(renewed.sort()).toEqual([false, true]);
    expect(one.orders.length + other.orders.length).toBe(1);
    await expect.poll(() => other.certificates.contextFor(BASE)).toBeDefined();
    await one.keeper.load();
    const shown = [one, other].map((node) => node.certificates.certificateFor(BASE)!.fingerprint);
    expect(shown[0]).toBe(shown[1]);
    stop();
  });

  it('is shown by another node also when the store fails right after the news of it', async () => {
    const one = lab();
    const failing: StateStore = { ...one.store };
    const other = lab({ store: failing });
    const stop = await other.keeper.follow(() => expect.unreachable());
    failing.list = () => Promise.reject(new Error('the store is slow'));
    await one.keeper.renew();
    await expect.poll(() => other.certificates.contextFor(BASE)).toBeDefined();
    stop();
  });

  it('is shown at the next look when no news of it came', async () => {
    const one = lab();
    const deaf = lab({ store: { ...one.store, watch: () => () => undefined } });
    await one.keeper.renew();
    expect(deaf.certificates.contextFor(BASE)).toBeUndefined();
    expect(await deaf.keeper.renew()).toBe(false);
    expect(deaf.certificates.contextFor(BASE)).toBeDefined();
  });

  it('writes nothing of an order whose lock was lost meanwhile', async () => {
    const store = openSqliteStore(':memory:');
    const node = lab({
      store,
      issue: async () => {
        await store.commit([], [{ key: `lock/cert/${BASE}`, value: 'another node' }]);
        const { certChain, key } = certificateFor(`*.${BASE}`);
        return { certChain, key, notAfter: 2_000_000_000 } as never;
      },
    });
    await expect(node.keeper.renew()).rejects.toThrow(/lock on the certificate was lost/);
    expect((await store.list('cert/')).entries).toEqual([]);
  });

  it('key-history-survives-upgrade: every key stays known with its evidence, over renewals and restarts', async () => {
    const { keeper, store } = lab();
    for (let i = 0; i < 3; i++) await keeper.renew({ force: true });
    const { keys, accountUri, accountEvidence, activeCertificate } = await lab({ store }).keeper.info();
    expect(new Set(keys.map(({ spki }) => Buffer.from(spki).toString('hex'))).size).toBe(3);
    expect(keys.map(({ evidence }) => evidence?.attestation.length)).toEqual([128, 128, 128]);
    expect([accountUri, accountEvidence?.quote]).toEqual(['https://ca.test/acct/1', 'quote']);
    expect(activeCertificate).toContain('BEGIN CERTIFICATE');
  });

  it('stays the one before when an order fails, or cannot be kept', async () => {
    const store = openSqliteStore(':memory:');
    const first = lab({ store });
    await first.keeper.renew();
    const shown = first.certificates.certificateFor(BASE)!.fingerprint;
    const failing = lab({ store, issue: async () => Promise.reject(new Error('the authority says no')) });
    await failing.keeper.load();
    await expect(failing.keeper.renew({ force: true })).rejects.toThrow('says no');
    expect(failing.certificates.certificateFor(BASE)!.fingerprint).toBe(shown);
    const full: StateStore = { ...store, commit: async () => Promise.reject(new Error('disk full')) };
    const unkept = lab({ store: full });
    await unkept.keeper.load();
    await expect(unkept.keeper.renew({ force: true })).rejects.toThrow('disk full');
    expect(unkept.certificates.certificateFor(BASE)!.fingerprint).toBe(shown);
    expect((await first.keeper.info()).keys).toHaveLength(1);
  });

  it('has its key in the history before it is ordered, so that a kill leaves no certificate of an unknown key', async () => {
    const { keeper, store } = lab({
      issue: async ({ onKey }) => {
        await onKey?.(new Uint8Array([1, 2, 3]));
        throw new Error('killed here');
      },
    });
    await expect(keeper.renew()).rejects.toThrow('killed here');
    const { keys } = await lab({ store }).keeper.info();
    expect(keys.map(({ spki, evidence }) => [[...spki], evidence?.quote])).toEqual([[[1, 2, 3], 'quote']]);
  });

  it('is ordered by the account that is kept before it orders, and by no other authority', async () => {
    const { keeper, store } = lab({ issue: async () => Promise.reject(new Error('killed here')) });
    await expect(keeper.renew()).rejects.toThrow('killed here');
    let registrations = 0;
    const next = lab({
      store,
      register: async (account) => {
        registrations += 1;
        return { ...account, uri: 'https://ca.test/acct/2' };
      },
    });
    await next.keeper.renew();
    expect([registrations, next.orders[0]?.account.uri]).toEqual([0, 'https://ca.test/acct/1']);
    const other = lab({ store, directoryUrl: 'https://other.test/dir' });
    await expect(other.keeper.renew({ force: true })).rejects.toThrow(/rotate the account/);
  });

  it('takes no damaged record for an absent one', async () => {
    const { store } = lab();
    await store.commit([], [{ key: 'acme/account', value: '{' }]);
    await expect(lab({ store }).keeper.renew()).rejects.toThrow(/acme\/account is damaged/);
    await store.commit([], [{ key: `cert/${BASE}`, value: '{"version":2}' }]);
    await expect(lab({ store }).keeper.load()).rejects.toThrow(/damaged/);
  });
});

function lab(options: Partial<CertificateKeeperOptions> = {}) {
  const clock = { now: Math.floor(Date.now() / 1000) };
  const store = options.store ?? openSqliteStore(':memory:');
  const certificates = new CertificateStore({ minVersion: 'TLSv1.2', maxVersion: 'TLSv1.3' });
  const orders: Parameters<NonNullable<CertificateKeeperOptions['issue']>>[0][] = [];
  const keeper = new CertificateKeeper({
    domain: BASE,
    directoryUrl: 'https://ca.test/dir',
    store,
    certificates,
    dns: {
      addTxt: async () => async () => undefined,
      listCaa: async () => [],
      changeCaa: async () => undefined,
    },
    nameServers: [],
    caaIssuer: async () => 'ca.test',
    maxDnsWaitMs: 0,
    txtTtlSeconds: 60,
    renewBeforeSeconds: 10 * DAY,
    attest: async (reportData) => ({ quote: 'quote', attestation: Buffer.from(reportData).toString('hex') }),
    now: () => clock.now,
    register: async (account) => ({ ...account, uri: 'https://ca.test/acct/1' }),
    issue: async (order) => {
      orders.push(order);
      const notAfter = clock.now + 30 * DAY;
      const { certChain, key } = certificateFor(`*.${BASE}`, notAfter);
      const spki = new Uint8Array(Buffer.from(`${orders.length}${Math.random()}`));
      await order.onKey?.(spki);
      return { certChain, key, spki, notAfter };
    },
    ...options,
  });
  return { keeper, store, certificates, clock, orders };
}
