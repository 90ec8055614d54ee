import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openSqliteStore } from '../state/sqlite-store.ts';
import type { StateStore } from '../state/state-store.ts';
import { addressPlan } from '../wireguard/address-plan.ts';
import { type Registration, Registry } from './registry.ts';

const PLAN = addressPlan({ ip: '10.0.0.1/24', reservedNet: ['10.0.0.1/32'], clientIpRange: '10.0.0.0/28' });
const OWN_KEY = keyOf(255);

describe('registering', () => {
  it('gives each instance an address of its own, and the same one again', async () => {
    const { registry, tunnels } = await lab();
    const first = await registry.register(request(1));
    const second = await registry.register(request(2));
    expect([first.ip, second.ip]).toEqual(['10.0.0.2', '10.0.0.3']);
    expect(await registry.register(request(1))).toBe(first);
    expect([...tunnels]).toEqual([
      [keyOf(1), '10.0.0.2'],
      [keyOf(2), '10.0.0.3'],
    ]);
  });

  it('does not write what has not changed', async () => {
    let commits = 0;
    const store = openSqliteStore(':memory:');
    const counting: StateStore = {
      ...store,
      commit: (...input) => {
        commits += 1;
        return store.commit(...input);
      },
    };
    const { registry } = await lab(counting);
    await registry.register(request(1));
    for (let i = 0; i < 10; i++) await registry.register(request(1));
    expect(commits).toBe(1);
  });

  it('takes a new key of the same instance, and ends the tunnel of the old one', async () => {
    const { registry, tunnels } = await lab();
    const { ip } = await registry.register(request(1));
    expect((await registry.register(request(1, { publicKey: keyOf(9) }))).ip).toBe(ip);
    expect([...tunnels]).toEqual([[keyOf(9), ip]]);
  });

  it('register-as-another-app: an instance stays with its application, a key with its instance', async () => {
    const { registry, tunnels } = await lab();
    await registry.register(request(1));
    await expect(registry.register(request(1, { appId: idOf(77) }))).rejects.toMatchObject({
      code: 'denied',
    });
    await expect(registry.register(request(2, { publicKey: keyOf(1) }))).rejects.toThrow(
      'WireGuard public key is already registered to another instance',
    );
    await expect(registry.register(request(3, { publicKey: OWN_KEY }))).rejects.toMatchObject({
      code: 'invalid',
    });
    expect([...tunnels]).toEqual([[keyOf(1), '10.0.0.2']]);
  });

  it.each([
    `${keyOf(1)}\nAllowedIPs = 0.0.0.0/0`,
    `${keyOf(1)}\n\n[Peer]\nPublicKey = ${keyOf(2)}`,
    '',
    'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=',
  ])('wireguard-config-injection: %j is no key', async (publicKey) => {
    const { registry, tunnels } = await lab();
    await expect(registry.register(request(1, { publicKey }))).rejects.toMatchObject({ code: 'invalid' });
    expect(tunnels.size).toBe(0);
  });

  it.each([
    ['an empty instance id', { instanceId: '' }],
    ['an app id of 19 bytes', { appId: 'ab'.repeat(19) }],
    ['an app id in capitals', { appId: 'AB'.repeat(20) }],
    ['a path for an id', { instanceId: `../${'a'.repeat(37)}` }],
    ['no compose hash', { composeHash: '' }],
  ])('refuses %s', async (_what, fields) => {
    const { registry } = await lab();
    await expect(registry.register(request(1, fields))).rejects.toMatchObject({ code: 'invalid' });
  });

  it('keeps the port policy of the same compose hash, and forgets that of another', async () => {
    const { registry } = await lab();
    const portPolicy = { ports: [{ port: 80, proxyProtocol: false }], restrict: true };
    await registry.register(request(1, { portPolicy }));
    expect((await registry.register(request(1, { publicKey: keyOf(8) }))).portPolicy).toEqual(portPolicy);
    expect((await registry.register(request(1, { composeHash: 'f'.repeat(64) }))).portPolicy).toBeUndefined();
  });

  it('learns the policy of the instance that was asked, and of no other', async () => {
    const { registry, store } = await lab();
    const asked = await registry.register(request(1));
    const open = { ports: [], restrict: false };
    const again = await registry.register(request(1, { publicKey: keyOf(8) }));
    expect(await registry.learnPolicy(asked, open)).toBe(false);
    expect(await registry.learnPolicy(again, open)).toBe(true);
    expect(await registry.learnPolicy(again, { ports: [], restrict: true })).toBe(false);
    expect((await lab(store)).registry.table.get(idOf(1))?.portPolicy).toEqual(open);
    expect((await registry.register(request(1, { composeHash: 'f'.repeat(64) }))).portPolicy).toBeUndefined();
  });

  it('is refused when all addresses are taken, until one is free again', async () => {
    const { registry, tunnels } = await lab();
    const all = await Promise.all(Array.from({ length: 13 }, (_, i) => registry.register(request(i + 1))));
    expect(new Set(all.map(({ ip }) => ip)).size).toBe(13);
    await expect(registry.register(request(50))).rejects.toThrow(/IP pool exhausted/);
    expect(await registry.remove(idOf(7))).toBe(true);
    expect((await registry.register(request(50))).ip).toBe('10.0.0.8');
    expect(tunnels.size).toBe(13);
  });

  it('keeps nothing of a registration that could not be written', async () => {
    const store = openSqliteStore(':memory:');
    let isFull = true;
    const failing: StateStore = {
      ...store,
      commit: async (...input) => {
        if (isFull) throw new Error('disk full');
        return await store.commit(...input);
      },
    };
    const { registry, tunnels } = await lab(failing);
    await expect(registry.register(request(1))).rejects.toThrow('disk full');
    expect([registry.table.size, tunnels.size]).toEqual([0, 0]);
    isFull = false;
    await registry.register(request(1));
    await registry.register(request(2));
    expect(registry.peers()).toHaveLength(2);
  });

  it('gives two that register one instance at once one address, and one of their keys', async () => {
    const { registry, store, tunnels } = await lab();
    await Promise.allSettled([1, 2, 3].map((n) => registry.register(request(1, { publicKey: keyOf(n) }))));
    const { entries } = await store.list('ip/');
    expect(entries).toHaveLength(1);
    expect(tunnels.size).toBe(1);
    expect([...tunnels.keys()]).toEqual([registry.table.get(idOf(1))!.publicKey]);
  });

  it('is what other nodes of the state did, too', async () => {
    const one = await lab();
    const other = await lab(one.store);
    const first = await one.registry.register(request(1));
    expect(other.registry.table.get(idOf(1))).toEqual(first);
    expect([...other.tunnels]).toEqual([[keyOf(1), '10.0.0.2']]);
    // From the same range: no address twice.
    const all = await Promise.all(
      [2, 3, 4, 5, 6, 7].map((n) => (n % 2 === 0 ? one : other).registry.register(request(n))),
    );
    expect(new Set(all.map(({ ip }) => ip)).size).toBe(6);
    await other.registry.register(request(1, { publicKey: keyOf(9) }));
    expect(one.registry.table.ofKey(keyOf(9))?.ip).toBe('10.0.0.2');
    expect(one.tunnels.has(keyOf(1))).toBe(false);
    await one.registry.remove(idOf(1));
    expect(other.registry.table.get(idOf(1))).toBeUndefined();
    expect(other.tunnels).toEqual(one.tunnels);
  });

  it('forgets nobody who is seen by another node', async () => {
    const one = await lab();
    const other = await lab(one.store);
    await one.registry.register(request(1));
    for (const hours of [3, 6, 9, 12]) {
      one.clock.now = other.clock.now = 1_700_000_000 + hours * 3_600;
      const handshakes = new Map([[keyOf(1), one.clock.now - 60]]);
      expect(await one.registry.recycle(one.clock.now - 36_000, handshakes)).toEqual([]);
      expect(await other.registry.recycle(other.clock.now - 36_000, new Map())).toEqual([]);
    }
    // It was last seen in hour 12, which was written in hour 12 or half the time before.
    one.clock.now = other.clock.now += 36_100;
    expect(await other.registry.recycle(other.clock.now - 36_000, new Map())).toHaveLength(1);
    expect(one.registry.table.size).toBe(0);
  });

  it('is the same after a restart, whatever happened', async () => {
    const step = fc.record({
      remove: fc.boolean(),
      n: fc.integer({ min: 1, max: 6 }),
      key: fc.integer({ min: 1, max: 8 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        const { registry, store, tunnels } = await lab();
        for (const { remove, n, key } of steps) {
          if (remove) await registry.remove(idOf(n));
          else await registry.register(request(n, { publicKey: keyOf(key) })).catch(() => undefined);
        }
        const again = await lab(store);
        expect([...again.registry.table.all()]).toEqual(
          [...registry.table.all()].sort((a, b) => (a.instanceId < b.instanceId ? -1 : 1)),
        );
        expect(new Map(again.tunnels)).toEqual(new Map(tunnels));
        const addresses = (await store.list('ip/')).entries.map(({ key, value }) => [key.slice(3), value]);
        const held = [...registry.table.all()].map(({ ip, instanceId }) => [ip, instanceId]);
        expect(addresses.sort()).toEqual(held.sort());
      }),
      { numRuns: 40 },
    );
  });

  it('leaves out a damaged record, and says which', async () => {
    const { store } = await lab();
    const good = {
      version: 1,
      instance_id: idOf(1),
      app_id: idOf(9),
      compose_hash: 'e'.repeat(64),
      ip: '10.0.0.2',
      public_key: keyOf(1),
      registered_at: 1,
    };
    const records: [string, unknown][] = [
      [`inst/${idOf(1)}`, good],
      [`inst/${idOf(2)}`, { ...good, instance_id: idOf(2), public_key: `${keyOf(2)}\n[Peer]` }],
      [`inst/${idOf(3)}`, { ...good, instance_id: idOf(3), public_key: keyOf(3) }],
      [`inst/${idOf(4)}`, { ...good, instance_id: idOf(1) }],
    ];
    await store.commit(
      [],
      [
        ...records.map(([key, value]) => ({ key, value: JSON.stringify(value) })),
        { key: `inst/${idOf(5)}`, value: '{' },
      ],
    );
    const damaged: string[] = [];
    const { registry } = await lab(store, (key) => damaged.push(key));
    expect(registry.table.size).toBe(1);
    expect(damaged).toEqual([2, 3, 4, 5].map((n) => `inst/${idOf(n)}`));
  });

  it('forgets who had no handshake and no registration for so long', async () => {
    const { registry, clock } = await lab();
    for (const n of [1, 2, 3]) await registry.register(request(n));
    clock.now += 100_000;
    await registry.register(request(3, { publicKey: keyOf(33) }));
    await registry.register(request(4));
    clock.now += 30_000;
    // Asked again without a change: nothing is written, and it counts.
    await registry.register(request(4));
    clock.now += 30_000;
    await registry.register(request(3, { publicKey: keyOf(33) }));
    const gone = await registry.recycle(clock.now - 36_000, new Map([[keyOf(1), clock.now - 60]]));
    expect(gone.map(({ instanceId }) => instanceId)).toEqual([idOf(2)]);
  });
});

async function lab(
  store: StateStore = openSqliteStore(':memory:'),
  onDamaged: (key: string, why: string) => void = () => undefined,
) {
  const tunnels = new Map<string, string>();
  const clock = { now: 1_700_000_000 };
  const registry = await Registry.load(
    {
      store,
      plan: PLAN,
      ownPublicKey: OWN_KEY,
      now: () => clock.now,
      tunnels: {
        set: ({ publicKey, ip }) => void tunnels.set(publicKey, ip),
        remove: (publicKey) => void tunnels.delete(publicKey),
      },
    },
    onDamaged,
  );
  return { registry, store, tunnels, clock };
}

function request(n: number, fields: Partial<Registration> = {}): Registration {
  return {
    appId: idOf(99),
    instanceId: idOf(n),
    composeHash: 'e'.repeat(64),
    publicKey: keyOf(n),
    ...fields,
  };
}

function idOf(n: number): string {
  return n.toString(16).padStart(40, '0');
}

function keyOf(n: number): string {
  return Buffer.alloc(32, n).toString('base64');
}
