import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ChooseOptions, chooseInstances } from './choose-instances.ts';
import { type Instance, portRule } from './instance.ts';
import { InstanceHealth } from './instance-health.ts';
import { RoutingTable } from './routing-table.ts';

const NOW = 1_700_000_000;

describe('the table of routes', () => {
  it('knows each instance by id, application and key, and nothing of what is gone', () => {
    const id = fc.nat(12).map(String);
    const step = fc.record({
      remove: fc.boolean(),
      id,
      app: fc.nat(3).map(String),
      key: fc.nat(30).map(String),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const table = new RoutingTable();
        const model = new Map<string, Instance>();
        for (const { remove, id: instanceId, app, key } of steps) {
          if (remove) {
            table.remove(instanceId);
            model.delete(instanceId);
          } else {
            const one = instance(instanceId, app, `${key}-${instanceId}`);
            table.put(one);
            model.set(instanceId, one);
          }
        }
        expect(table.size).toBe(model.size);
        for (let i = 0; i <= 12; i++) expect(table.get(`${i}`)).toBe(model.get(`${i}`));
        for (let app = 0; app <= 3; app++) {
          const ids = [...model.values()]
            .filter(({ appId }) => appId === `${app}`)
            .map((one) => one.instanceId);
          expect(table.ofApp(`${app}`).map((one) => one.instanceId)).toEqual(ids.sort());
        }
        for (const one of model.values()) expect(table.ofKey(one.publicKey)).toBe(one);
      }),
    );
  });
});

describe('choosing among instances', () => {
  it('takes the freshest tunnels, and none that is stale or never was', () => {
    const options = of({ a: 50, b: 10, c: 200, d: undefined, e: 1 });
    expect(ids('app', options)).toEqual(['e', 'b', 'a']);
    expect(ids('app', { ...options, topN: 9 })).toEqual(['e', 'b', 'a']);
    expect(ids('nobody', options)).toEqual([]);
  });

  it('takes the instance that is named, whatever its tunnel', () => {
    expect(ids('d', of({ d: undefined }))).toEqual(['d']);
  });

  it('takes one at random where the configuration says so', () => {
    const options = { ...of({ a: 1, b: 1, c: 1 }), topN: 0, random: () => 0.999 };
    expect(ids('app', options)).toEqual(['c']);
  });

  it('leaves out who failed three times, for longer each time, unless there is no other', () => {
    const clock = { now: 0 };
    const options = { ...of({ a: 1, b: 2 }), health: new InstanceHealth(() => clock.now) };
    const failThrice = (): void => {
      for (let i = 0; i < 3; i++) options.health.failed('a');
    };
    failThrice();
    expect(ids('app', options)).toEqual(['b']);
    clock.now = 10_000;
    expect(ids('app', options)).toEqual(['a', 'b']);
    failThrice();
    clock.now = 29_000;
    expect(ids('app', options)).toEqual(['b']);
    for (let i = 0; i < 3; i++) options.health.failed('b');
    expect(ids('app', options)).toEqual(['a', 'b']);
    options.health.succeeded('a');
    expect(ids('app', options)).toEqual(['a']);
  });

  it('counts failures within ten seconds only', () => {
    const clock = { now: 0 };
    const health = new InstanceHealth(() => clock.now);
    for (let i = 0; i < 20; i++) {
      health.failed('a');
      clock.now += 6_000;
    }
    expect(health.isUp('a')).toBe(true);
  });

  it('prefers who has the fewest connections where the configuration says so', () => {
    const options = { ...of({ a: 1, b: 2, c: 3 }), policy: 'least-connections' as const };
    const end = options.health.begin('a');
    options.health.begin('b');
    options.health.begin('b');
    expect(ids('app', options)).toEqual(['c', 'a', 'b']);
    end();
    end();
    expect(ids('app', options)).toEqual(['a', 'c', 'b']);
  });
});

describe('the ports of an instance', () => {
  it.each([
    [undefined, 22, false, false],
    [{ ports: [], restrict: false }, 22, true, false],
    [{ ports: [{ port: 80, proxyProtocol: true }], restrict: true }, 80, true, true],
    [{ ports: [{ port: 80, proxyProtocol: true }], restrict: true }, 81, false, false],
    [{ ports: [{ port: 80, proxyProtocol: true }], restrict: false }, 81, true, false],
    [{ ports: [], restrict: true }, 80, false, false],
  ])('policy %j, port %i: allowed %s, PROXY %s', (portPolicy, port, allowed, proxyProtocol) => {
    expect(portRule({ ...(portPolicy && { portPolicy }) }, port)).toEqual({ allowed, proxyProtocol });
  });
});

function of(ages: Record<string, number | undefined>): ChooseOptions {
  const table = new RoutingTable();
  const handshakes = new Map<string, number>();
  for (const [name, age] of Object.entries(ages)) {
    table.put(instance(name, 'app', `key-${name}`));
    handshakes.set(`key-${name}`, age === undefined ? 0 : NOW - age);
  }
  const health = new InstanceHealth();
  return { table, health, handshakes, topN: 3, staleSeconds: 100, policy: 'fastest-handshake', now: NOW };
}

function ids(id: string, options: ChooseOptions): string[] {
  return chooseInstances(id, options).map(({ instanceId }) => instanceId);
}

function instance(instanceId: string, appId: string, publicKey: string): Instance {
  return { instanceId, appId, composeHash: '', ip: '10.0.0.2', publicKey, registeredAt: NOW };
}
