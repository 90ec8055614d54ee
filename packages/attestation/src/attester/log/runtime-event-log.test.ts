import { execFileSync, fork } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { utf8 } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { RuntimeEvent } from '../../attestation.ts';
import { eventLine, parseEventLines } from './event-line.ts';
import { RuntimeEventLog } from './runtime-event-log.ts';

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'log-'));
  path = join(directory, 'run', 'events.log');
});
afterEach(() => rmSync(directory, { recursive: true }));

const event: RuntimeEvent = { event: 'app-id', payload: Uint8Array.of(1, 2, 3) };
const extended = async (): Promise<void> => {};
const events = (log: RuntimeEventLog) => log.exclusive(async (list) => list);

describe('the log', () => {
  test('starts empty and keeps what was extended, as the original writes it', async () => {
    const log = new RuntimeEventLog(path);
    expect(await events(log)).toEqual([]);
    await log.emit(event, extended);
    await log.emit({ event: 'x', payload: new Uint8Array(), version: 2 }, extended);
    expect(readFileSync(path, 'utf8')).toBe(
      '{"event":"app-id","payload":"AQID"}\n{"event":"x","payload":"","version":2}\n',
    );
    expect(await events(log)).toEqual([event, { event: 'x', payload: new Uint8Array(), version: 2 }]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(existsSync(`${path}.unfinished`)).toBe(false);
  });

  test('extends first, and in the order of the lines', async () => {
    const order: number[] = [];
    const log = new RuntimeEventLog(path);
    const one = (n: number) =>
      log.emit({ event: `${n}`, payload: new Uint8Array() }, async () => {
        expect(existsSync(path) ? readFileSync(path, 'utf8') : '').not.toContain(`"${n}"`);
        await new Promise((resolve) => setTimeout(resolve, 5));
        order.push(n);
      });
    await Promise.all([one(1), one(2), one(3)]);
    expect((await events(log)).map(({ event: name }) => Number(name))).toEqual(order);
  });

  test('is poisoned by an extension that failed, for every reader', async () => {
    const log = new RuntimeEventLog(path);
    await log.emit(event, extended);
    await expect(log.emit(event, () => Promise.reject(new Error('no answer')))).rejects.toMatchObject({
      code: 'event-log',
    });
    for (const reader of [log, new RuntimeEventLog(path)]) {
      await expect(events(reader)).rejects.toMatchObject({ code: 'event-log' });
      await expect(reader.emit(event, extended)).rejects.toMatchObject({ code: 'event-log' });
    }
    expect(parseEventLines(readFileSync(path, 'utf8'))).toHaveLength(1);
  });

  test('is poisoned by a line that could not be written', async () => {
    const log = new RuntimeEventLog(path);
    await log.emit(event, extended);
    const unwritable = async (): Promise<void> => {
      rmSync(path);
      mkdirSync(path);
    };
    await expect(log.emit(event, unwritable)).rejects.toMatchObject({ code: 'event-log' });
    rmSync(path, { recursive: true });
    await expect(events(log)).rejects.toMatchObject({ code: 'event-log' });
  });

  test('refuses an event without harm when nothing can be written beside it', async () => {
    mkdirSync(join(directory, 'run'));
    mkdirSync(`${path}.unfinished.d`);
    writeFileSync(path, '');
    const log = new RuntimeEventLog(join(path, 'below-a-file.log'));
    let touched = false;
    const extend = async (): Promise<void> => {
      touched = true;
    };
    await expect(log.emit(event, extend)).rejects.toThrow();
    expect(touched).toBe(false);
  });

  test.each([
    ['a torn line', '{"event":"a","payload":""}\n{"event":"b"'],
    ['no JSON', 'hello\n'],
    ['another type', '{"event":1,"payload":""}\n'],
    ['an unknown member', '{"event":"a","payload":"","digest":""}\n'],
    ['version 1 spelled out', '{"event":"a","payload":"","version":1}\n'],
    ['hex instead of base64', '{"event":"a","payload":"zz!"}\n'],
  ])('refuses %s', async (_, text) => {
    mkdirSync(join(directory, 'run'));
    writeFileSync(path, text);
    await expect(events(new RuntimeEventLog(path))).rejects.toMatchObject({ code: 'event-log' });
  });

  test('forgets an earlier boot only when the registers are zero', async () => {
    const log = new RuntimeEventLog(path);
    await log.emit(event, () => Promise.reject(new Error('killed'))).catch(() => undefined);
    await log.forgetEarlierBoot(async () => false);
    await expect(events(log)).rejects.toMatchObject({ code: 'event-log' });
    await log.forgetEarlierBoot(async () => true);
    expect(await events(log)).toEqual([]);
  });

  test('refuses names that are no text and lines that are too long', async () => {
    const log = new RuntimeEventLog(path);
    await expect(log.emit({ ...event, event: '\ud800' }, extended)).rejects.toMatchObject({
      code: 'malformed',
    });
    await expect(log.emit({ ...event, payload: new Uint8Array(1 << 20) }, extended)).rejects.toMatchObject({
      code: 'too-large',
    });
    expect(await events(log)).toEqual([]);
  });

  test('any events come back as they were', () => {
    const anyEvent = fc.record({ event: fc.string({ unit: 'grapheme' }), payload: fc.uint8Array() });
    fc.assert(
      fc.property(fc.array(anyEvent, { maxLength: 8 }), (list) => {
        expect(parseEventLines(list.map(eventLine).join('\n'))).toEqual(list);
      }),
    );
  });
});

describe('several processes', () => {
  test('never write between the extension and the line of another', async () => {
    const child = fileURLToPath(new URL('./event-log-writer.fixture.ts', import.meta.url));
    const register = join(directory, 'register');
    writeFileSync(register, '');
    const run = (name: string) =>
      new Promise<number | null>((resolve, reject) => {
        const options = { execArgv: ['--import', 'tsx', '-C', '@dstack/source'], timeout: 20_000 };
        const process_ = fork(child, [path, register, name], options);
        process_.once('error', reject);
        process_.once('exit', resolve);
      });
    expect(await Promise.all([run('a'), run('b')])).toEqual([0, 0]);
    const logged = (await events(new RuntimeEventLog(path))).map(({ event: name }) => name);
    expect(logged).toHaveLength(20);
    expect(readFileSync(register, 'utf8').trimEnd().split('\n')).toEqual(logged);
  });

  test('a writer that was killed leaves a poisoned log, and its lock is free', async () => {
    const child = fileURLToPath(new URL('./event-log-writer.fixture.ts', import.meta.url));
    const code = await new Promise((resolve) => {
      fork(child, [path, '-', 'die'], {
        execArgv: ['--import', 'tsx', '-C', '@dstack/source'],
        timeout: 20_000,
      }).once('exit', (_, signal) => resolve(signal));
    });
    expect(code).toBe('SIGKILL');
    await expect(events(new RuntimeEventLog(path))).rejects.toMatchObject({ code: 'event-log' });
  });
});

describe('what somebody else put in the place of the log', () => {
  test.each([
    ['a FIFO', (at: string) => execFileSync('mkfifo', [at])],
    ['a link', (at: string, other: string) => symlinkSync(other, at)],
    ['a hard link', (at: string, other: string) => linkSync(other, at)],
    ['a device', (at: string) => symlinkSync('/dev/null', at)],
  ])('%s is neither read nor written, nor waited for', async (_name, make) => {
    const other = join(directory, 'other');
    writeFileSync(other, '');
    mkdirSync(join(directory, 'run'), { mode: 0o700 });
    make(path, other);
    const log = new RuntimeEventLog(path);
    await expect(events(log)).rejects.toMatchObject({ code: 'event-log' });
    await expect(log.emit(event, extended)).rejects.toMatchObject({ code: 'event-log' });
    expect(readFileSync(other, 'utf8')).toBe('');
  });

  test('a folder that others may write to gives no log: they could hold its lock', async () => {
    mkdirSync(join(directory, 'run'));
    chmodSync(join(directory, 'run'), 0o777);
    const log = new RuntimeEventLog(path);
    await expect(events(log)).rejects.toMatchObject({ code: 'device' });
    await expect(log.emit(event, extended)).rejects.toMatchObject({ code: 'device' });
  });
});

test('a line of the original', () => {
  expect(parseEventLines('\n{"event":"app-id","payload":"AQID"}\n\n')).toEqual([event]);
  expect(eventLine({ event: 'ü', payload: utf8('ü') })).toBe('{"event":"ü","payload":"w7w="}\n');
});
