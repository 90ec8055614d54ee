import { newKeyPair } from '@dstack-cloud/wireguard';
import { describe, expect, it } from 'vitest';
import { openSqliteStore } from '../state/sqlite-store.ts';
import { addressPlan } from '../wireguard/address-plan.ts';
import { importState } from './import-state.ts';
import { Registry } from './registry.ts';

const APP = 'a1'.repeat(20);
const keys = [newKeyPair().publicKey, newKeyPair().publicKey];

/** As the original writes its state. */
function stateOf(instances: readonly object[]): string {
  const all = instances.map((one, n) => ({
    ...{ id: `${n}`.padStart(40, '0'), app_id: APP, ip: `10.0.0.${n + 2}`, public_key: keys[n] ?? 'k' },
    ...{ reg_time: { secs_since_epoch: 1_700_000_000, nanos_since_epoch: 1 } },
    ...{ last_seen: { secs_since_epoch: 0, nanos_since_epoch: 0 } },
    ...one,
  }));
  return JSON.stringify({
    nodes: {},
    apps: { [APP]: all.map(({ id }) => id) },
    instances: Object.fromEntries(all.map((one) => [one.id, one])),
    allocated_addresses: all.map(({ ip }) => ip),
  });
}

describe('the state of a gateway of the 0.6 line', () => {
  it('is taken over: guests keep addresses and keys, once, and their ports stay closed until they register', async () => {
    const store = openSqliteStore(':memory:');
    const text = stateOf([{}, {}]);
    expect(await importState(text, store)).toEqual({ taken: 2, known: 0, leftOut: [] });
    expect(await importState(text, store)).toEqual({ taken: 0, known: 2, leftOut: [] });
    const registry = await Registry.load(
      {
        store,
        plan: addressPlan({ ip: '10.0.0.1/24', reservedNet: ['10.0.0.1/32'], clientIpRange: '10.0.0.0/25' }),
        tunnels: { set: () => undefined, remove: () => undefined },
        ownPublicKey: newKeyPair().publicKey,
        now: () => 1_700_000_100,
      },
      () => expect.unreachable(),
    );
    const [first] = registry.table.ofApp(APP);
    expect(first).toMatchObject({ ip: '10.0.0.2', publicKey: keys[0] });
    expect(first?.portPolicy).toBeUndefined();
    const composeHash = 'c3'.repeat(32);
    const again = await registry.register({
      ...first!,
      composeHash,
      portPolicy: { ports: [], restrict: false },
    });
    expect(again).toMatchObject({ ip: '10.0.0.2', composeHash });
    // Nobody gets an address that was taken over.
    const other = { appId: APP, instanceId: 'f'.repeat(40), composeHash, publicKey: newKeyPair().publicKey };
    expect((await registry.register(other)).ip).toBe('10.0.0.4');
    registry.close();
  });

  it('is taken without what cannot be used, which is named', async () => {
    const evil = `${newKeyPair().publicKey}\n[Peer]`;
    const text = stateOf([
      {},
      { public_key: keys[0] },
      { public_key: evil },
      { id: 'test-id-0' },
      { public_key: keys[1], ip: '10.0.0.2' },
    ]);
    const { taken, leftOut } = await importState(text, openSqliteStore(':memory:'));
    expect(taken).toBe(1);
    expect(leftOut.map(({ why }) => why)).toEqual([
      'another instance has its key',
      'public_key: not a WireGuard key',
      expect.stringMatching(/^id: /),
      'another instance has the address 10.0.0.2',
    ]);
  });

  it('is no other file', async () => {
    const store = openSqliteStore(':memory:');
    for (const text of ['', '[]', '{}', '{"instances":[]}', '{"instances":{"x":{"id":1}}}'])
      await expect(importState(text, store), text).rejects.toMatchObject({ code: 'config-invalid' });
    expect((await store.list('')).entries).toEqual([]);
  });
});
