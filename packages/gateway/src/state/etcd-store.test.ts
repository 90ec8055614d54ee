import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type EtcdLab, startEtcd } from '@dstack-cloud/test/etcd-lab';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openEtcdStore } from './etcd-store.ts';
import type { Change, StateStore } from './state-store.ts';

describeWithPrograms('the state in an etcd of three members', ['etcd'], () => {
  const folder = mkdtempSync(join(tmpdir(), 'gateway-etcd-'));
  const stores: StateStore[] = [];
  let lab: EtcdLab;
  const open = (): StateStore => {
    const store = openEtcdStore(lab.options);
    stores.push(store);
    return store;
  };

  beforeAll(async () => {
    lab = await startEtcd(folder, 19_000 + (process.pid % 150) * 6);
  }, 60_000);
  afterAll(async () => {
    lab.thaw();
    await Promise.all(stores.map((store) => store.close()));
    await lab.close();
    rmSync(folder, { recursive: true });
  });

  it('is a map with revisions, whatever is committed', async () => {
    const store = open();
    let run = 0;
    const name = fc.constantFrom('a', 'b', 'c');
    const write = fc.record({
      key: name,
      value: fc.option(fc.string({ unit: 'grapheme' }), { nil: undefined }),
    });
    const step = fc.record({
      key: name,
      stale: fc.boolean(),
      writes: fc.uniqueArray(write, { selector: (one) => one.key, minLength: 1, maxLength: 3 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 8 }), async (steps) => {
        const prefix = `run${run++}/`;
        const model = new Map<string, { value: string; revision: number }>();
        for (const { key, stale, writes } of steps) {
          const wanted = (model.get(prefix + key)?.revision ?? 0) + (stale ? 1 : 0);
          const named = writes.map(({ key: one, value }) => ({ key: prefix + one, value }));
          const revision = await store.commit([{ key: prefix + key, revision: wanted }], named);
          expect(revision === undefined).toBe(stale);
          if (revision === undefined) continue;
          for (const { key: one, value } of named) {
            if (value === undefined) model.delete(one);
            else model.set(one, { value, revision });
          }
        }
        const { entries } = await store.list(prefix);
        expect(entries).toEqual(
          [...model].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, rest]) => ({ key, ...rest })),
        );
      }),
      { numRuns: 15 },
    );
  });

  it('lists more than fit into one answer, and nothing of another prefix', async () => {
    const store = open();
    const keys = Array.from({ length: 2_500 }, (_, n) => `many/${String(n).padStart(5, '0')}`);
    for (let start = 0; start < keys.length; start += 100)
      await store.commit(
        [],
        keys.slice(start, start + 100).map((key) => ({ key, value: key })),
      );
    await store.commit([], [{ key: 'many0', value: 'another' }]);
    expect((await store.list('many/')).entries.map(({ key }) => key)).toEqual(keys);
  });

  it('tells every change once and in order, also while the member that is asked dies', async () => {
    const [writer, reader] = [open(), open()];
    const { revision } = await reader.list('seen/');
    const seen: Change[] = [];
    reader.watch(
      'seen/',
      revision,
      (change) => seen.push(change),
      () => expect.unreachable(),
    );
    const put = async (n: number): Promise<void> => {
      await expect
        .poll(
          async () => await writer.commit([], [{ key: `seen/${n}`, value: `${n}` }]).catch(() => undefined),
          {
            timeout: 20_000,
          },
        )
        .toBeDefined();
    };
    for (let n = 0; n < 5; n++) await put(n);
    await expect.poll(() => seen.length, { timeout: 10_000 }).toBe(5);
    lab.freeze([0]);
    for (let n = 5; n < 10; n++) await put(n);
    const values = () => [...new Set(seen.map(({ value }) => value))];
    await expect
      .poll(values, { timeout: 30_000 })
      .toEqual(['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
    expect(seen.map((one) => one.revision)).toEqual(seen.map((one) => one.revision).sort((a, b) => a - b));
    lab.thaw();
  }, 90_000);

  it('gives a lock to one at a time, and to the next when its holder is gone', async () => {
    const [one, other] = [open(), open()];
    const held = await one.hold('lock/x', 'one', { replace: false });
    expect(held).toBeDefined();
    expect(await other.hold('lock/x', 'other', { replace: false })).toBeUndefined();
    expect(await one.commit([held!.expectation], [{ key: 'under/x', value: '1' }])).toBeDefined();
    await held!.release();
    expect(await one.commit([held!.expectation], [{ key: 'under/x', value: '2' }])).toBeUndefined();
    expect(await other.hold('lock/x', 'other', { replace: false })).toBeDefined();
    expect((await other.list('under/x')).entries[0]?.value).toBe('1');
  });

  it('writes nothing without a majority, and says so within the time that a guest waits', async () => {
    const store = open();
    lab.freeze([1, 2]);
    const started = performance.now();
    await expect(store.commit([], [{ key: 'minority', value: 'x' }])).rejects.toMatchObject({
      code: 'state',
    });
    expect(performance.now() - started).toBeLessThan(5_000);
    lab.thaw();
    await expect
      .poll(async () => await store.commit([], [{ key: 'majority', value: 'x' }]).catch(() => undefined), {
        timeout: 30_000,
      })
      .toBeDefined();
  }, 60_000);

  it('is not for who shows no certificate', async () => {
    const { ca, key, cert } = lab.options.tls;
    const stranger = openEtcdStore({ ...lab.options, tls: { ca, cert: ca, key } });
    await expect(stranger.list('')).rejects.toMatchObject({ code: 'state' });
    const nobody = openEtcdStore({ endpoints: lab.options.endpoints, tls: { ca, cert: '', key: '' } });
    await expect(nobody.list('')).rejects.toMatchObject({ code: 'state' });
    expect(cert).not.toBe('');
  });
});
