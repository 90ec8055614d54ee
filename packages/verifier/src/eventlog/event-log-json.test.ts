import { createHash } from 'node:crypto';
import { AttestationError } from '@dstack-cloud/attestation';
import { concatBytes, fromHex, utf8 } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson, fixturePath } from '@dstack-cloud/test/fixtures';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { eventlogCommand } from '../command/eventlog-command.ts';
import { eventLogReport } from './event-log-json.ts';

interface Expected {
  readonly kind: string;
  readonly spec?: object;
  readonly events?: number;
  readonly replay?: Record<string, string>;
  readonly pcrs_sha256?: Record<string, string>;
  readonly pcrs_sha384?: Record<string, string>;
}

/** Firmware that wrote the separators of eight PCRs into two registers. */
const ANOMALIES: Readonly<Record<string, readonly string[]>> = {
  'eventlog/ccel-event-log.bin': [
    'RTMR0: 3 separators, where one belongs',
    'RTMR1: 5 separators, where one belongs',
  ],
};

describeWithFixtures('event logs', 'attestation/expected.json', () => {
  const { files } = fixtureJson<{ files: Record<string, Expected> }>('attestation/expected.json');
  const logs = Object.entries(files).filter(([, { kind }]) => kind === 'ccel' || kind === 'tpmlog');

  for (const [name, expected] of logs) {
    const log = fixture(`attestation/${name}`);
    if (!name.includes('debian10')) {
      it(`parses and replays ${name}`, () => {
        const report = eventLogReport(log);
        expect(report.format).toBe(expected.kind === 'ccel' ? 'ccel' : 'tpm');
        expect(report.events.length).toBe(expected.events);
        expect(report.anomalies).toEqual(ANOMALIES[name] ?? []);
        expect(report.not_replayed).toEqual([]);
        for (const [register, value] of Object.entries(expected.replay ?? {})) {
          expect(report.registers[register]).toEqual({ sha384: value });
        }
        for (const bank of ['sha256', 'sha384'] as const) {
          for (const [pcr, value] of Object.entries(expected[`pcrs_${bank}`] ?? {})) {
            expect([pcr, report.registers[`pcr${pcr}`]?.[bank]]).toEqual([pcr, value]);
          }
        }
      });
    } else {
      it(`refuses ${name}, which has SHA-1 alone`, () => {
        expect(() => eventLogReport(log)).toThrow(AttestationError);
      });
    }

    it(`never crashes on damaged forms of ${name}`, () => {
      fc.assert(
        fc.property(
          fc.integer({ min: 0, max: log.length }),
          fc.array(fc.tuple(fc.nat(log.length - 1), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }),
          (end, changes) => {
            const damaged = log.slice(0, end);
            for (const [at, value] of changes) if (at < end) damaged[at] = value;
            try {
              eventLogReport(damaged);
            } catch (error) {
              expect(error).toBeInstanceOf(AttestationError);
            }
          },
        ),
        { numRuns: 60 },
      );
    });
  }

  it('notes that a log was cut', () => {
    const log = fixture('attestation/eventlog/gcp-tdx-dstack-tpm-eventlog.bin');
    expect(eventLogReport(log.subarray(0, 20_000)).anomalies).toEqual([expect.stringContaining('truncated')]);
  });
});

describeWithFixtures(
  'a log whose digests nobody here can replay',
  'public-cases/eventlog/ccel-sm3-only.bin',
  () => {
    const log = fixture('public-cases/eventlog/ccel-sm3-only.bin');

    it('says so, and gives no value to a register that has events', () => {
      const report = eventLogReport(log);
      expect(report.events).toHaveLength(82);
      expect(report.anomalies).toContain('digests of algorithm 0x0012 (SM3-256) are not replayed');
      const used = new Set(report.events.filter(({ type }) => type !== 3).map(({ index }) => index - 1));
      const names = [0, 1, 2, 3].filter((rtmr) => used.has(rtmr)).map((rtmr) => `rtmr${rtmr}`);
      expect(report.not_replayed).toEqual(names);
      for (const name of names) expect(report.registers).not.toHaveProperty(name);
    });

    it.each([[[]], [['--json']]])('ends the command with 1, %j', async (flags) => {
      let text = '';
      const output = { out: (more: string) => (text += more), err: () => undefined };
      const path = fixturePath('public-cases/eventlog/ccel-sm3-only.bin');
      expect(await eventlogCommand([path, ...flags], output)).toBe(1);
      expect(text).toContain('SM3-256');
      expect(text).not.toMatch(/rtmr[01]\W+sha384/);
    });
  },
);

describe('logs made by hand', () => {
  const SEPARATOR = createHash('sha256').update(new Uint8Array(4)).digest();
  const other = (n: number): Uint8Array => new Uint8Array(32).fill(n);
  const u32 = (...values: number[]): Uint8Array => new Uint8Array(new Uint32Array(values).buffer);
  /** A TPM log of one bank; events are PCR, type and digest, or none. */
  const logOf = (...events: [pcr: number, type: number, digest: Uint8Array | undefined][]): Uint8Array => {
    const spec = concatBytes(
      utf8('Spec ID Event03\0'),
      u32(0),
      fromHex('00020002'),
      u32(1),
      fromHex('0b00200000'),
    );
    const header = concatBytes(u32(0, 3), new Uint8Array(20), u32(spec.length), spec);
    const bodies = events.map(([pcr, type, digest]) =>
      digest
        ? concatBytes(u32(pcr, type, 1), fromHex('0b00'), digest, u32(4), new Uint8Array(4))
        : concatBytes(u32(pcr, type, 0), u32(4), new Uint8Array(4)),
    );
    return concatBytes(header, ...bodies);
  };

  it.each<[string, Uint8Array, string[]]>([
    ['one in each of two registers', logOf([0, 4, SEPARATOR], [1, 4, SEPARATOR]), []],
    [
      'two in one',
      logOf([2, 4, SEPARATOR], [2, 1, other(1)], [2, 4, SEPARATOR]),
      ['PCR 2: 2 separators, where one belongs'],
    ],
    [
      'a second one of another value',
      logOf([2, 4, SEPARATOR], [2, 4, other(9)]),
      ['PCR 2: 2 separators, where one belongs'],
    ],
    [
      'a second one under another type, which is not measured',
      logOf([2, 4, SEPARATOR], [2, 0x80000003, SEPARATOR]),
      ['PCR 2: 2 separators, where one belongs'],
    ],
  ])('counts separators: %s', (_name, log, anomalies) => {
    expect(eventLogReport(log).anomalies).toEqual(anomalies);
  });

  it('gives no value to a register of which one event has no digest', () => {
    const report = eventLogReport(logOf([0, 1, other(1)], [3, 1, other(1)], [3, 1, undefined]));
    expect(Object.keys(report.registers)).toEqual(['pcr0']);
    expect(report.not_replayed).toEqual(['pcr3']);
    expect(report.anomalies).toEqual(['pcr3: 1 of 2 events have no sha256 digest']);
  });
});
