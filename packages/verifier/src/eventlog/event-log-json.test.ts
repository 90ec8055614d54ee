import { AttestationError } from '@dstack-cloud/attestation';
import { describeWithFixtures, fixture, fixtureJson } from '@dstack-cloud/test/fixtures';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { eventLogReport } from './event-log-json.ts';

interface Expected {
  readonly kind: string;
  readonly spec?: object;
  readonly events?: number;
  readonly replay?: Record<string, string>;
  readonly pcrs_sha256?: Record<string, string>;
  readonly pcrs_sha384?: Record<string, string>;
}

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
        expect(report.anomalies).toEqual([]);
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
