import { describe, expect, it } from 'vitest';
import { sealedStore } from './sealed-store.ts';
import { openSqliteStore } from './sqlite-store.ts';
import type { Change } from './state-store.ts';

const SECRET = new Uint8Array(32).fill(7);
const KEY = '{"key":"-----BEGIN PRIVATE KEY-----"}';

describe('sealed records', () => {
  it('are read as they were written, by the same application, and by nobody beside it', async () => {
    const under = openSqliteStore(':memory:');
    const store = sealedStore(under, SECRET);
    const seen: Change[] = [];
    store.watch(
      '',
      (await store.list('')).revision,
      (change) => seen.push(change),
      () => undefined,
    );
    const write = async (key: string, value: string | undefined) => await store.commit([], [{ key, value }]);
    for (const name of ['cert/apps.test', 'acme/account', 'inst/1']) await write(name, KEY);
    const read = async (from: typeof store) => (await from.list('')).entries.map(({ value }) => value);
    expect(await read(store)).toEqual([KEY, KEY, KEY]);
    expect(await read(sealedStore(under, SECRET))).toEqual([KEY, KEY, KEY]);
    expect(seen.map(({ value }) => value)).toEqual([KEY, KEY, KEY]);
    const raw = await under.list('');
    expect(raw.entries.map(({ value }) => value.includes('PRIVATE'))).toEqual([false, false, true]);
    const stranger = await read(sealedStore(under, new Uint8Array(32).fill(8)));
    expect(stranger).toEqual([
      'this record was sealed by somebody else',
      'this record was sealed by somebody else',
      KEY,
    ]);
    await write('cert/apps.test', undefined);
    expect(seen.at(-1)?.value).toBeUndefined();
    expect((await store.list('cert/')).entries).toEqual([]);
  });

  it('cannot be moved, changed, shortened or replaced by whoever has the store', async () => {
    const under = openSqliteStore(':memory:');
    const store = sealedStore(under, SECRET);
    await store.commit([], [{ key: 'cert/one.test', value: KEY }]);
    const [{ value: sealed } = { value: '' }] = (await under.list('cert/')).entries;
    const bytes = Buffer.from(sealed.slice('sealed:1:'.length), 'base64');
    const flipped = (at: number): string =>
      `sealed:1:${Buffer.from(bytes.map((byte, n) => (n === at ? byte ^ 1 : byte))).toString('base64')}`;
    const evil = [
      KEY,
      '',
      'sealed:1:',
      'sealed:2:',
      sealed.slice(0, -8),
      flipped(0),
      flipped(20),
      flipped(bytes.length - 1),
    ];
    for (const value of evil) {
      await under.commit([], [{ key: 'cert/one.test', value }]);
      const [entry] = (await store.list('cert/one.test')).entries;
      expect(entry?.value, value.slice(0, 20)).toMatch(/^this record/);
    }
    await under.commit([], [{ key: 'cert/two.test', value: sealed }]);
    expect((await store.list('cert/two.test')).entries[0]?.value).toBe(
      'this record was sealed by somebody else',
    );
  });
});
