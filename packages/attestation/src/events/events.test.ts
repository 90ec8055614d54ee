import { fromHex, toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson } from '@dstack-cloud/test/fixtures';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RuntimeEvent } from '../attestation.ts';
import { AttestationError } from '../errors.ts';
import { type BootLogHash, EV_NO_ACTION, parseBootLog } from './boot-log.ts';
import { ccelEvents } from './ccel.ts';
import { replayDigests } from './replay.ts';
import { findEvent, replayRuntimeEvents, runtimeEventDigest } from './runtime-events.ts';

const event = (name: string, payload = ''): RuntimeEvent => ({ event: name, payload: fromHex(payload) });

interface Expected {
  kind: string;
  runtime_events?: { event: string; payload: string; sha384: string; sha256?: string }[];
  runtime_replay_sha384?: string;
  runtime_replay_sha256?: string;
  runtime_replay_sha384_boot_mr_done?: string;
  replay?: Record<string, string>;
  events?: number;
  pcrs_sha256?: Record<string, string>;
  pcrs_sha384?: Record<string, string>;
  pcr2_events?: { sha256: string }[];
  startup_locality?: number | null;
  parse_error_expected?: string;
}

describeWithFixtures('events on real logs', 'attestation/expected.json', () => {
  const { files } = fixtureJson<{ files: Record<string, Expected> }>('attestation/expected.json');

  for (const [path, file] of Object.entries(files)) {
    if (file.runtime_events && file.runtime_events.length > 1) {
      it(`${path}: runtime events`, () => {
        const events = file.runtime_events!.map((item) => event(item.event, item.payload));
        for (const [i, item] of file.runtime_events!.entries()) {
          expect(toHex(runtimeEventDigest(events[i]!, 'sha384'))).toBe(item.sha384);
          if (item.sha256) expect(toHex(runtimeEventDigest(events[i]!, 'sha256'))).toBe(item.sha256);
        }
        if (file.runtime_replay_sha384) {
          expect(toHex(replayRuntimeEvents(events, 'sha384'))).toBe(file.runtime_replay_sha384);
          expect(toHex(replayRuntimeEvents(events, 'sha256'))).toBe(file.runtime_replay_sha256);
          expect(toHex(replayRuntimeEvents(events, 'sha384', { until: 'boot-mr-done' }))).toBe(
            file.runtime_replay_sha384_boot_mr_done,
          );
        }
      });
    }
    if (file.kind === 'ccel') {
      it(`${path}: CCEL`, () => {
        const events = ccelEvents(fixture(`attestation/${path}`));
        for (const imr of [0, 1, 2, 3]) {
          const digests = events.filter((item) => item.imr === imr).map((item) => item.digest);
          expect(toHex(replayDigests(digests, 'sha384'))).toBe(file.replay![`rtmr${imr}`]);
        }
      });
    }
    if (file.kind === 'tpmlog') {
      it(`${path}: TPM log`, () => {
        const bytes = fixture(`attestation/${path}`);
        if (file.parse_error_expected) {
          expect(() => parseBootLog(bytes)).toThrow(AttestationError);
          return;
        }
        const log = parseBootLog(bytes);
        expect(log.anomalies).toEqual([]);
        for (const [bank, values] of [
          ['sha256', file.pcrs_sha256],
          ['sha384', file.pcrs_sha384],
        ] as const) {
          for (const [pcr, value] of Object.entries(values ?? {})) {
            const digests = log.events
              .filter((item) => item.index === Number(pcr) && item.type !== EV_NO_ACTION)
              .flatMap((item) => item.digests.get(bank as BootLogHash) ?? []);
            const initial = new Uint8Array(bank === 'sha256' ? 32 : 48);
            if (pcr === '0' && file.startup_locality) initial[initial.length - 1] = file.startup_locality;
            expect([pcr, toHex(replayDigests(digests, bank, initial))]).toEqual([pcr, value]);
          }
        }
      });
    }
  }

  it('stops cleanly on zero padding and on truncation, at every length', () => {
    const bytes = fixture('attestation/eventlog/gcp-cos113-ccel.bin');
    const whole = parseBootLog(bytes).events.length;
    const padded = new Uint8Array(bytes.length + 4096);
    const end = bytes.length - 4;
    padded.set(bytes.subarray(0, end));
    for (let length = 0; length < 3000; length += 7) {
      try {
        expect(parseBootLog(bytes.subarray(0, length)).events.length).toBeLessThanOrEqual(whole);
      } catch (error) {
        expect(error).toBeInstanceOf(AttestationError);
      }
    }
  });

  it('throws nothing but its own error on changed logs', () => {
    const bytes = fixture('attestation/eventlog/dstack-ccel.bin').subarray(0, 2100);
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (offset, mask) => {
        const changed = bytes.slice();
        changed[offset]! ^= mask;
        try {
          parseBootLog(changed);
          ccelEvents(changed);
        } catch (error) {
          expect(error).toBeInstanceOf(AttestationError);
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe('runtime events', () => {
  it('hashes version 2 as canonical JSON (docs/protocol/event-logs.md section 3.1)', () => {
    expect(toHex(runtimeEventDigest({ ...event('app-id', '42'), version: 2 }, 'sha384'))).toBe(
      'c337d642ea14cb07041488f6fecd7bc537002325b647d1d295b65db4110bd74c3399c83ebe2eeccd66a3a03cd9e1c5e7',
    );
  });

  it('replays the vectors of docs/protocol/event-logs.md section 3.3', () => {
    const events = [
      event('system-preparing'),
      event('app-id', '11'.repeat(20)),
      event('compose-hash', '33'.repeat(32)),
      event('instance-id', '22'.repeat(20)),
      event('boot-mr-done'),
      event('os-image-hash', '77'.repeat(32)),
      event('key-provider', toHex(new TextEncoder().encode('{"name":"kms","id":"00"}'))),
      event('system-ready'),
    ];
    expect(toHex(replayRuntimeEvents(events, 'sha256'))).toBe(
      '1246902133881581a55341e07544085b6b6921fa6154b6001a7f75bc8338d423',
    );
    expect(toHex(replayRuntimeEvents(events, 'sha256', { until: 'boot-mr-done' }))).toBe(
      'a30d9e1717bf402f65e69fbd7efea79c15284ab0bd32b11496485f9f033b9947',
    );
  });

  it('finds only what the system measured before it was ready', () => {
    const events = [
      event('app-id', '01'),
      event('system-ready'),
      event('key-provider', '02'),
      event('app-id', '03'),
    ];
    expect(toHex(findEvent(events, 'app-id')!)).toBe('01');
    expect(findEvent(events, 'key-provider')).toBeUndefined();
  });
});
