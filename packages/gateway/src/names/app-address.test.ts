import { describe, expect, it } from 'vitest';
import { parseAppAddress } from './app-address.ts';
import { AppAddressResolver, type TxtAnswer } from './app-address-resolver.ts';

const ID = '3327603e03f5bd1f830812ca4a789277fc31f577';

describe('the value of an app-address record', () => {
  it('names an application and its port', () => {
    expect(parseAppAddress(`${ID}:8090`)).toEqual({ id: ID, port: 8090 });
    expect(parseAppAddress(`${ID.toUpperCase()}:443`)).toEqual({ id: ID, port: 443 });
  });

  it.each([
    'localhost:8011',
    'gateway:80',
    'health:80',
    `${ID}`,
    `${ID}:`,
    `${ID}:0`,
    `${ID}:65536`,
    `${ID}:80:1`,
    ':80',
    '',
  ])('%s names none', (text) => {
    expect(parseAppAddress(text)).toBeUndefined();
  });
});

describe('looking up a custom domain', () => {
  it('asks for the name, its older form, and the record for all names of the parent', async () => {
    const { resolver, asked, set } = lookups();
    set('_dstack-app-address-wildcard.example.com', [[`${ID}:443`]]);
    expect(await resolver.resolve('www.example.com')).toEqual([{ id: ID, port: 443 }]);
    expect(asked).toEqual([
      '_dstack-app-address.www.example.com',
      '_tapp-address.www.example.com',
      '_dstack-app-address-wildcard.example.com',
    ]);
    set('_tapp-address.old.example.com', [[`${ID}:80`]]);
    expect(await resolver.resolve('old.example.com')).toEqual([{ id: ID, port: 80 }]);
    set('_dstack-app-address.old2.example.com', [[`${ID}:1`]]);
    set('_tapp-address.old2.example.com', [[`${ID}:2`]]);
    expect(await resolver.resolve('old2.example.com')).toEqual([{ id: ID, port: 1 }]);
  });

  it('takes several records as several candidates, and leaves out what is no address', async () => {
    const { resolver, set } = lookups();
    set('_dstack-app-address.a.example', [['localhost:8011'], [`${ID}:1`, 'more'], [`${ID}:2`]]);
    expect(await resolver.resolve('a.example')).toEqual([
      { id: ID, port: 1 },
      { id: ID, port: 2 },
    ]);
  });

  it('asks once for many at a time, remembers by time to live, and no longer than ten minutes', async () => {
    const { resolver, asked, set, clock } = lookups();
    set('_dstack-app-address.a.example', [[`${ID}:1`]], 86_400);
    await Promise.all(Array.from({ length: 50 }, () => resolver.resolve('a.example')));
    expect(asked).toHaveLength(2);
    clock.now += 599_000;
    await resolver.resolve('a.example');
    expect(asked).toHaveLength(2);
    clock.now += 2_000;
    await resolver.resolve('a.example');
    expect(asked).toHaveLength(4);
  });

  it('remembers for ten seconds that there is nothing, and does not remember a failure', async () => {
    const { resolver, asked, set, clock } = lookups();
    expect(await resolver.resolve('none.example')).toEqual([]);
    expect(await resolver.resolve('none.example')).toEqual([]);
    expect(asked).toHaveLength(3);
    set('_dstack-app-address.none.example', [[`${ID}:1`]]);
    clock.now += 10_001;
    expect(await resolver.resolve('none.example')).toHaveLength(1);
    set('_dstack-app-address.bad.example', new Error('SERVFAIL'));
    await expect(resolver.resolve('bad.example')).rejects.toThrow('SERVFAIL');
    set('_dstack-app-address.bad.example', [[`${ID}:1`]]);
    expect(await resolver.resolve('bad.example')).toHaveLength(1);
  });

  it('has a bound on lookups under way, and on names it remembers', async () => {
    let waiting: (() => void)[] = [];
    const resolver = new AppAddressResolver({
      prefix: '_dstack-app-address',
      legacy: false,
      lookup: () => new Promise((resolve) => waiting.push(() => resolve({ records: [] }))),
    });
    const asked = Array.from({ length: 1_024 }, (_, i) => resolver.resolve(`n${i}`));
    await expect(resolver.resolve('one-more')).rejects.toThrow('too many');
    while (waiting.length > 0) {
      const now = waiting;
      waiting = [];
      for (const end of now) end();
      await new Promise(setImmediate);
    }
    await Promise.all(asked);
    const free = resolver.resolve('one-more');
    for (const end of waiting) end();
    expect(await free).toEqual([]);
  });
});

function lookups() {
  const zone = new Map<string, TxtAnswer | Error>();
  const asked: string[] = [];
  const clock = { now: 0 };
  const resolver = new AppAddressResolver({
    prefix: '_dstack-app-address',
    legacy: true,
    now: () => clock.now,
    lookup: async (name) => {
      asked.push(name);
      const found = zone.get(name) ?? { records: [] };
      if (found instanceof Error) throw found;
      return found;
    },
  });
  const set = (name: string, records: string[][] | Error, ttlSeconds = 60): void => {
    zone.set(name, records instanceof Error ? records : { records, ttlSeconds });
  };
  return { resolver, asked, set, clock };
}
