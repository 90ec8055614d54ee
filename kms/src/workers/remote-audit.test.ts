import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AppendFile, type AuditEntry, AuditLog, openAppendFile } from '@dstack-cloud/audit-log';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkConfig } from '../config/check-config.ts';
import { KmsError } from '../errors.ts';
import { createLog } from '../telemetry/log.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import { Link, toWire, type WireError } from './link.ts';
import type { PrimaryMethods, WorkerMethods } from './protocol.ts';
import { remoteAudit } from './remote-audit.ts';
import { portPair } from './test-ports.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'remote-audit-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const config = checkConfig({}, {});
const entry = (reason: string): AuditEntry => ({ event: 'app-key', decision: 'allowed', reason });
const UNAVAILABLE = { code: 'UNAVAILABLE', message: /nothing is released without a record/ };

type Write = (entry: AuditEntry) => Promise<unknown>;

/** A worker's audit log, and the process that writes for it. */
function worker(write: Write, options: { timeoutMs?: number } = {}) {
  const { ends, cut } = portPair();
  const batches: number[] = [];
  new Link<WorkerMethods>(ends[0], {
    record: async (entries: readonly AuditEntry[]): Promise<(WireError | null)[]> => {
      batches.push(entries.length);
      return Promise.all(entries.map((one) => write(one).then(() => null, toWire)));
    },
  });
  const metrics = createMetrics({ version: '0', simulated: true, imageVerified: true });
  const link = new Link<PrimaryMethods>(ends[1], {});
  return {
    audit: remoteAudit({ config, link, metrics, log: createLog('silent'), ...options }),
    batches,
    cut,
  };
}

const openLog = (open = openAppendFile) =>
  AuditLog.open({ directory, key: new Uint8Array(32).fill(1), open });
const reasons = () =>
  readFileSync(join(directory, 'audit-000000000000.log'), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => (JSON.parse(line) as { reason: string }).reason);

test('records of one turn go in one message, in their order, and count when they are on disk', async () => {
  const log = await openLog();
  const { audit, batches } = worker((one) => log.append(one));
  const names = Array.from({ length: 600 }, (_, index) => `record ${index}`);
  await Promise.all(names.map((name) => audit.write(entry(name))));
  expect(reasons()).toEqual(names);
  expect(batches).toEqual([256, 256, 88]);
  await log.close();
});

test('a full disk refuses each record of the batch, and the log goes on when there is room', async () => {
  let isFull = true;
  const log = await openLog(async (path): Promise<AppendFile> => {
    const file = await openAppendFile(path);
    const append = (bytes: Uint8Array): Promise<void> =>
      isFull && path.endsWith('.log') ? Promise.reject(new Error('ENOSPC')) : file.append(bytes);
    return { ...file, append };
  });
  const { audit } = worker((one) => log.append(one));
  const results = await Promise.allSettled([audit.write(entry('a')), audit.write(entry('b'))]);
  expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  isFull = false;
  await audit.write(entry('c'));
  expect(reasons()).toEqual(['c']);
  await log.close();
});

test('without the other process nothing is recorded, before, while and after it ends', async () => {
  const { audit, cut } = worker(() => new Promise(() => undefined));
  const waiting = audit.write(entry('a'));
  const refused = expect(waiting).rejects.toMatchObject(UNAVAILABLE);
  setTimeout(cut, 20);
  await refused;
  await expect(audit.write(entry('b'))).rejects.toMatchObject(UNAVAILABLE);
});

test('no answer in time is a refusal, and a late one changes nothing', async () => {
  let answer: (() => void) | undefined;
  const { audit } = worker(() => new Promise<void>((resolve) => (answer = resolve)), { timeoutMs: 30 });
  await expect(audit.write(entry('a'))).rejects.toMatchObject(UNAVAILABLE);
  answer!();
  await new Promise((resolve) => setTimeout(resolve, 20));
});

test('an answer that does not speak of a record is none', async () => {
  const { ends } = portPair();
  new Link<WorkerMethods>(ends[0], { record: () => [] });
  const metrics = createMetrics({ version: '0', simulated: true, imageVerified: true });
  const link = new Link<PrimaryMethods>(ends[1], {});
  const audit = remoteAudit({ config, link, metrics, log: createLog('silent') });
  await expect(audit.write(entry('a'))).rejects.toMatchObject(UNAVAILABLE);
});

test('proofs and heads that cannot be had are no error of who asks', async () => {
  const { audit, cut } = worker(async () => undefined, { timeoutMs: 20 });
  const unavailable = { code: 'UNAVAILABLE', message: 'The audit log cannot be asked now' };
  await expect(audit.head()).rejects.toMatchObject(unavailable);
  cut();
  await expect(audit.inclusionProof(0, 1)).rejects.toMatchObject(unavailable);
});

test('so many records wait and no more', async () => {
  const { audit, cut } = worker(() => new Promise(() => undefined));
  const all = Array.from({ length: 5000 }, (_, index) => audit.write(entry(String(index))));
  const settled = Promise.allSettled(all);
  await expect(all.at(-1)).rejects.toMatchObject(UNAVAILABLE);
  cut();
  expect((await settled).every(({ status }) => status === 'rejected')).toBe(true);
});

test('cut at any moment: what was confirmed is on disk, once', async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(60), fc.integer({ min: 1, max: 40 }), async (turns, count) => {
      rmSync(directory, { recursive: true, force: true });
      const log = await openLog();
      const { audit, cut } = worker((one) => log.append(one));
      const confirmed: string[] = [];
      const all = Array.from({ length: count }, async (_, index) => {
        for (let turn = 0; turn < index; turn++) await new Promise(setImmediate);
        await audit.write(entry(`record ${index}`)).then(
          () => confirmed.push(`record ${index}`),
          (error: unknown) => expect(error).toMatchObject(UNAVAILABLE),
        );
      });
      for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
      cut();
      await Promise.all(all);
      await log.close();
      const written = reasons();
      expect(new Set(written).size).toBe(written.length);
      expect(written).toEqual(expect.arrayContaining(confirmed));
    }),
    { numRuns: 25 },
  );
});

test('questions get answers, and errors keep their kind', async () => {
  const { ends } = portPair();
  new Link<WorkerMethods>(ends[0], {
    inclusionProof: ([seq, size]: [number, number]) => [`${seq} of ${size}`],
    obtainImage: () => {
      throw new KmsError('image-invalid', 'not that image');
    },
  });
  const link = new Link<PrimaryMethods>(ends[1], {});
  expect(await link.call('inclusionProof', [3, 8])).toEqual(['3 of 8']);
  await expect(link.call('obtainImage', 'aa')).rejects.toMatchObject({
    name: 'KmsError',
    code: 'image-invalid',
  });
  await expect(link.call('head', null)).rejects.toThrow('No method head');
});
