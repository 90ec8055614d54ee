import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { openSqliteStore } from './sqlite-store.ts';
import type { Change } from './state-store.ts';

const folder = mkdtempSync(join(tmpdir(), 'gateway-state-'));

afterAll(() => rmSync(folder, { recursive: true }));

describe('the state in SQLite', () => {
  it('is a map with revisions, whatever is committed, and the same after it was closed', async () => {
    const key = fc.constantFrom('inst/a', 'inst/b', 'ip/1', 'ip/2');
    const write = fc.record({ key, value: fc.option(fc.string(), { nil: undefined }) });
    const step = fc.record({
      key,
      stale: fc.boolean(),
      writes: fc.uniqueArray(write, { selector: (w) => w.key, maxLength: 3 }),
    });
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
        const path = join(folder, `model-${run++}`);
        let store = openSqliteStore(path);
        const model = new Map<string, { value: string; revision: number }>();
        let revision = 0;
        for (const { key: expected, stale, writes } of steps) {
          const wanted = (model.get(expected)?.revision ?? 0) + (stale ? 1 : 0);
          const got = await store.commit([{ key: expected, revision: wanted }], writes);
          expect(got).toBe(stale ? undefined : ++revision);
          if (stale) continue;
          for (const { key: name, value } of writes) {
            if (value === undefined) model.delete(name);
            else model.set(name, { value, revision });
          }
        }
        await store.close();
        store = openSqliteStore(path);
        const { entries, revision: at } = await store.list('');
        expect(at).toBe(revision);
        expect(entries).toEqual(
          [...model].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, rest]) => ({ key: name, ...rest })),
        );
        expect((await store.list('ip/')).entries).toEqual(
          entries.filter((entry) => entry.key.startsWith('ip/')),
        );
        await store.close();
      }),
      { numRuns: 30 },
    );
  });

  it('lets one of two that want the same record have it', async () => {
    const store = openSqliteStore(':memory:');
    const both = await Promise.all(
      ['a', 'b'].map((value) => store.commit([{ key: 'ip/1', revision: 0 }], [{ key: 'ip/1', value }])),
    );
    expect(both).toEqual([1, undefined]);
    expect((await store.list('')).entries).toEqual([{ key: 'ip/1', value: 'a', revision: 1 }]);
    await store.close();
  });

  it('tells changes in order, and who comes with an older revision to list again', async () => {
    const store = openSqliteStore(':memory:');
    const seen: Change[] = [];
    const stop = store.watch(
      'inst/',
      0,
      (change) => seen.push(change),
      () => expect.unreachable(),
    );
    await store.commit(
      [],
      [
        { key: 'inst/a', value: '1' },
        { key: 'ip/1', value: 'a' },
      ],
    );
    await store.commit([], [{ key: 'inst/a', value: undefined }]);
    stop();
    await store.commit([], [{ key: 'inst/b', value: '2' }]);
    expect(seen).toEqual([
      { key: 'inst/a', value: '1', revision: 1 },
      { key: 'inst/a', value: undefined, revision: 2 },
    ]);
    await new Promise<void>((resolve) => store.watch('inst/', 1, () => undefined, resolve));
    await store.close();
  });

  it('is not opened when it is damaged, or cannot be there', () => {
    const damaged = join(folder, 'damaged');
    writeFileSync(damaged, 'not a database at all, but long enough to be read as one'.repeat(100));
    expect(() => openSqliteStore(damaged)).toThrow(/cannot be opened/);
    expect(() => openSqliteStore(join(folder, 'none', 'x'))).toThrow(/cannot be opened/);
  });
});
