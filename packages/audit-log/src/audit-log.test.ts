import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fromHex } from '@dstack-cloud/encoding';
import { k256PublicKey } from '@dstack-cloud/keys';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type AppendFile, openAppendFile } from './append-file.ts';
import { AuditLog } from './audit-log.ts';
import { verifyConsistency, verifyInclusion } from './merkle-tree.ts';
import type { AuditEntry, AuditRecord } from './record.ts';
import { listSegments } from './segments.ts';
import { verifyTreeHead } from './tree-head.ts';
import { verifyLog } from './verify-log.ts';

const key = new Uint8Array(32).fill(7);
const publicKey = k256PublicKey(key);
const entry = (app: number): AuditEntry => ({
  event: 'app-key',
  app_id: app.toString(16).padStart(40, '0'),
  decision: 'allowed',
  block_number: app,
});

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dstack-audit-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const open = (options: Partial<Parameters<typeof AuditLog.open>[0]> = {}) =>
  AuditLog.open({ directory, key, ...options });
const newestSegment = async () => (await listSegments(directory)).at(-1)!.path;

describe('AuditLog', () => {
  test('keeps the order, survives a restart, and proves every record', async () => {
    const first = await open();
    await Promise.all(Array.from({ length: 20 }, (_, app) => first.append(entry(app))));
    const early = first.head();
    await first.close();

    const second = await open();
    for (let app = 20; app < 25; app++) await second.append(entry(app));
    const late = second.head();
    const records = (await second.records(0, 100)).map((line) => JSON.parse(line) as AuditRecord);
    expect(records.map(({ seq, block_number }) => [seq, block_number])).toEqual(
      Array.from({ length: 25 }, (_, app) => [app, app]),
    );
    expect(verifyTreeHead(late, publicKey)).toEqual(late);
    for (const { seq, hash } of records) {
      const proof = second.inclusionProof(seq).map((node) => fromHex(node));
      expect(verifyInclusion(fromHex(hash), seq, 25, proof, fromHex(late.root))).toBe(true);
    }
    const proof = second.consistencyProof(20).map((node) => fromHex(node));
    expect(verifyConsistency(20, 25, proof, fromHex(early.root), fromHex(late.root))).toBe(true);
    await second.close();
    expect(await verifyLog(directory, publicKey, [early, late])).toMatchObject({ records: 25 });
  });

  test('a record that was changed, removed or added by hand is found', async () => {
    const log = await open();
    for (let app = 0; app < 3; app++) await log.append(entry(app));
    const head = log.head();
    await log.close();
    const path = await newestSegment();
    const text = readFileSync(path, 'utf8');
    const lines = text.split('\n');
    for (const broken of [
      text.replace('allowed', 'denied'),
      `${lines[0]}\n${lines[2]}\n`,
      `${lines[1]}\n${lines[0]}\n${lines[2]}\n`,
      `${text}${lines[2]}\n`,
      `${lines[0]}\n`,
      text.slice(0, -1),
    ]) {
      writeFileSync(path, broken);
      await expect(verifyLog(directory, publicKey, [head])).rejects.toMatchObject({
        code: expect.stringMatching(/chain-broken|malformed/),
      });
    }
  });

  test('a head of another key, or over other records, is refused', async () => {
    const log = await open();
    await log.append(entry(1));
    const head = log.head();
    await log.close();
    await expect(
      verifyLog(directory, k256PublicKey(new Uint8Array(32).fill(8)), [head]),
    ).rejects.toMatchObject({
      code: 'proof-invalid',
    });
    await expect(verifyLog(directory, publicKey, [{ ...head, size: 2 }])).rejects.toMatchObject({
      code: 'proof-invalid',
    });
    await expect(verifyLog(directory, publicKey, [{ ...head, extra: 1 }])).rejects.toMatchObject({
      code: 'malformed',
    });
  });

  test('a record half written by a crash is cut off, one that is whole stays', async () => {
    const log = await open();
    await log.append(entry(1));
    await log.close();
    // Half a line; half a line whose rest never reached the disk.
    for (const torn of ['{"event":"app-k', `{"event":"app-k${'\0'.repeat(40_000)}`]) {
      appendFileSync(await newestSegment(), torn);
      await expect(verifyLog(directory, publicKey, [])).rejects.toMatchObject({ code: 'malformed' });
      const repaired = await open();
      expect(repaired.size).toBe(1);
      await repaired.close();
    }
    const again = await open();
    await again.append(entry(2));
    await again.close();
    expect(await verifyLog(directory, publicKey, [])).toMatchObject({ records: 2 });
  });

  test.each(['audit-', 'audit.hashes'])(
    'a full disk under %s refuses the record, leaves nothing half written, and the log goes on when there is room',
    async (name) => {
      let full = false;
      const log = await open({
        open: async (path) => {
          const file = await openAppendFile(path);
          return {
            ...bound(file),
            append: async (bytes) => {
              if (!full || !basename(path).startsWith(name)) return file.append(bytes);
              await file.append(bytes.slice(0, 10));
              throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
            },
          };
        },
      });
      await log.append(entry(1));
      full = true;
      await expect(log.append(entry(2))).rejects.toMatchObject({ code: 'write-failed' });
      full = false;
      expect((await log.append(entry(3))).seq).toBe(1);
      await log.close();
      expect(await verifyLog(directory, publicKey, [])).toMatchObject({ records: 2 });
    },
  );

  test('records that were taken away while it was closed are missed when it is opened', async () => {
    const log = await AuditLog.open({ directory, key });
    for (let index = 0; index < 5; index++) await log.append({ event: 'app-key', decision: 'denied' });
    expect(log.lost).toBe(0);
    await log.close();
    const path = join(directory, 'audit-000000000000.log');
    const lines = readFileSync(path, 'utf8').split('\n');
    writeFileSync(path, `${lines.slice(0, 2).join('\n')}\n`);
    const shorter = await AuditLog.open({ directory, key });
    expect([shorter.size, shorter.lost]).toEqual([2, 3]);
    await shorter.close();
    const again = await AuditLog.open({ directory, key });
    expect([again.size, again.lost]).toEqual([2, 0]);
    await again.close();
  });

  test('records that arrive in one turn of the event loop share one fsync', async () => {
    let syncs = 0;
    const log = await open({
      open: async (path) => {
        const file = await openAppendFile(path);
        return {
          ...bound(file),
          sync: () => {
            if (!path.endsWith('.hashes')) syncs += 1;
            return file.sync();
          },
        };
      },
    });
    await Promise.all(
      Array.from({ length: 8 }, async (_, app) => {
        for (let hops = 0; hops < app; hops++) await Promise.resolve();
        await log.append(entry(app));
      }),
    );
    expect(syncs).toBe(1);
    await log.close();
  });

  test('a failed fsync closes the log: nothing later is acknowledged', async () => {
    let failing = false;
    const log = await open({
      open: async (path) => {
        const file = await openAppendFile(path);
        return { ...bound(file), sync: () => (failing ? Promise.reject(new Error('EIO')) : file.sync()) };
      },
    });
    await log.append(entry(1));
    failing = true;
    await expect(log.append(entry(2))).rejects.toMatchObject({ code: 'write-failed' });
    failing = false;
    await expect(log.append(entry(3))).rejects.toMatchObject({ code: 'poisoned' });
    expect(log.size).toBe(1);
    await log.close();
  });

  test('rotates by size, removes the oldest, and the proofs still hold', async () => {
    const log = await open({ segmentBytes: 1000, keepSegments: 2 });
    for (let app = 0; app < 30; app++) await log.append(entry(app));
    const head = log.head();
    const left = (await log.records(0, 100)).map((line) => (JSON.parse(line) as AuditRecord).seq);
    expect(left[0]).toBeGreaterThan(0);
    expect(left.at(-1)).toBe(29);
    expect(left).toEqual(left.map((_, index) => left[0]! + index));
    expect(log.inclusionProof(0).length).toBeGreaterThan(0);
    await log.close();
    expect((await listSegments(directory)).length).toBeLessThanOrEqual(2);
    expect(await verifyLog(directory, publicKey, [head])).toMatchObject({ records: 30 });
    const again = await open({ segmentBytes: 1000, keepSegments: 2 });
    expect(again.head().root).toBe(head.root);
    await again.close();
  });

  test('a kill while the log is opened never loses the hashes of records that were rotated away', async () => {
    const options = { segmentBytes: 1000, keepSegments: 2 };
    const log = await open(options);
    for (let app = 0; app < 30; app++) await log.append(entry(app));
    const { root } = log.head();
    await log.close();
    const path = join(directory, 'audit.hashes');
    const whole = readFileSync(path);
    // What a crash can leave: the last hashes missing, cut in the middle, or never flushed and read as zero.
    for (const left of [
      whole.subarray(0, -32),
      whole.subarray(0, -40),
      Buffer.concat([whole.subarray(0, -32), Buffer.alloc(32)]),
    ]) {
      writeFileSync(path, left);
      await expect(
        open({
          ...options,
          open: async (name) => {
            const file = await openAppendFile(name);
            // The process ends right after the file was cut: nothing more is written.
            return { ...bound(file), append: () => Promise.reject(new Error('killed')) };
          },
        }),
      ).rejects.toMatchObject({ code: 'write-failed' });
      const again = await open(options);
      expect(again.head().root).toBe(root);
      await again.close();
      expect(readFileSync(path)).toEqual(whole);
    }
    // A hash that is there and another is no accident.
    const forged = Buffer.from(whole);
    forged[forged.length - 1]! ^= 1;
    writeFileSync(path, forged);
    await expect(open(options)).rejects.toMatchObject({ code: 'chain-broken' });
  });

  test('a clock that jumps back does not make a later head look older', async () => {
    let now = 1_700_000_000_000;
    const log = await open({ now: () => now });
    await log.append(entry(1));
    const first = log.head();
    now -= 3_600_000;
    await log.append(entry(2));
    expect(log.head().timestamp).toBeGreaterThanOrEqual(first.timestamp);
    await log.close();
  });

  test('pages through thousands of records over several segments', async () => {
    const log = await open({ segmentBytes: 200_000 });
    await Promise.all(Array.from({ length: 3000 }, (_, app) => log.append(entry(app))));
    await log.append(entry(3000));
    await log.close();
    const again = await open({ segmentBytes: 200_000 });
    for (const from of [0, 1, 255, 256, 700, 2999, 3000, 3001]) {
      const page = (await again.records(from, 10)).map((line) => (JSON.parse(line) as AuditRecord).seq);
      const expected = Array.from({ length: 10 }, (_, index) => from + index).filter((seq) => seq <= 3000);
      expect(page).toEqual(expected);
    }
    await again.close();
  });

  test('an entry that is none is refused and takes no number', async () => {
    const log = await open();
    await expect(log.append({ ...entry(1), event: 'x y' })).rejects.toMatchObject({ code: 'malformed' });
    await expect(log.append({ ...entry(1), k256_key: '00' } as unknown as AuditEntry)).rejects.toMatchObject({
      code: 'malformed',
    });
    expect((await log.append(entry(2))).seq).toBe(0);
    await log.close();
  });
});

const bound = (file: AppendFile): AppendFile => ({
  append: (bytes) => file.append(bytes),
  sync: () => file.sync(),
  truncate: (length) => file.truncate(length),
  close: () => file.close(),
});
