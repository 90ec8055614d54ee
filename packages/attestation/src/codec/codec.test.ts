import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Attestation, TdxEvent } from '../attestation.ts';
import { AttestationError } from '../errors.ts';
import { stripForCertificate } from '../events/strip.ts';
import { attestedConfig } from './attested-config.ts';
import { decodeAttestation } from './decode-attestation.ts';
import { encodeAttestation, encodeAttestationV1 } from './encode-attestation.ts';
import { eventLogFromJson, eventLogToJson } from './event-json.ts';
import { attestationFromQuote } from './legacy.ts';

const SAMPLE = 'attestation/dstack/attestation-v0-dstack-tdx.bin';

describeWithFixtures('attestation codec on real and mock evidence', SAMPLE, () => {
  const { files } = fixtureJson<{ files: Record<string, Record<string, unknown>> }>(
    'attestation/expected.json',
  );
  const paths = Object.entries(files)
    .filter(([, file]) => String(file['kind']).startsWith('dstack-attestation'))
    .map(([path]) => path);

  it.each(paths)('%s is read and written again byte for byte', (path) => {
    const bytes = fixture(`attestation/${path}`);
    const attestation = decodeAttestation(bytes);
    expect(toHex(encodeAttestation(attestation))).toBe(toHex(bytes));
    expect(decodeAttestation(encodeAttestationV1(attestation))).toEqual(attestation);
    const expected = files[path]!;
    if (expected['report_data']) expect(toHex(attestation.reportData)).toBe(expected['report_data']);
    if (expected['config']) expect(attestation.config).toBe(expected['config']);
  });

  const { cases } = fixtureJson<{ cases: { id: string; good: boolean; files: Record<string, string> }[] }>(
    'mock-evidence/expected.json',
  );
  const versioned = cases.filter((item) => item.files['v1'] && !item.id.startsWith('wire-'));

  it.each(versioned)('mock evidence $id: V1 is written byte for byte', ({ files: { v0, v1 } }) => {
    const bytes = fixture(`mock-evidence/${v1}`);
    const attestation = decodeAttestation(bytes);
    expect(toHex(encodeAttestationV1(attestation))).toBe(toHex(bytes));
    if (v0) expect(encodeAttestation(attestation)).toEqual(fixture(`mock-evidence/${v0}`));
  });

  it('refuses trailing bytes, other versions, long lengths and the empty input', () => {
    const bytes = fixture(SAMPLE);
    const refusal = (input: Uint8Array) => {
      try {
        decodeAttestation(input);
        return 'accepted';
      } catch (error) {
        expect(error).toBeInstanceOf(AttestationError);
        return (error as AttestationError).code;
      }
    };
    expect(refusal(new Uint8Array())).toBe('malformed');
    expect(refusal(Uint8Array.of(...bytes, 0))).toBe('malformed');
    expect(refusal(Uint8Array.of(1, ...bytes.subarray(1)))).toBe('unsupported');
    expect(refusal(Uint8Array.of(0, 5, ...bytes.subarray(2)))).toBe('unsupported');
    expect(refusal(fromHex('0000feffffff'))).toBe('too-large');
    expect(refusal(new Uint8Array(10_485_761))).toBe('too-large');
    // 5010 in the four-byte form, where two bytes do.
    expect(refusal(Uint8Array.of(0, 0, 0x4a, 0x4e, 0, 0, ...bytes.subarray(4)))).toBe('malformed');
    expect(refusal(Uint8Array.of(...encodeAttestationV1(decodeAttestation(bytes)), 0))).toBe('malformed');
  });

  it('strips for a certificate as docs/protocol/evidence.md section 7 says', () => {
    const attestation = decodeAttestation(fixture(SAMPLE));
    const { quote } = stripForCertificate(attestation);
    if (quote.mode !== 'dstack-tdx') throw new Error('mode');
    const runtime = quote.eventLog.filter((event) => event.imr === 3);
    expect(runtime).toHaveLength(9);
    expect(runtime.every((event) => event.digest.length === 0)).toBe(true);
    expect(runtime[1]!.eventPayload).toHaveLength(20);
    const acpi = quote.eventLog.filter((event) => event.imr !== 3);
    expect(acpi.map((event) => [event.imr, event.digest.length, event.eventPayload])).toEqual([
      [0, 48, utf8('ACPI DATA')],
      [0, 48, utf8('ACPI DATA')],
      [0, 48, utf8('ACPI DATA')],
    ]);
  });

  it('converts quote and event log of the older form', () => {
    const report = fixtureJson<{ quote: string; event_log: string; report_data: string }>(
      'attestation/dstack/quote-report.json',
    );
    const log = typeof report.event_log === 'string' ? report.event_log : JSON.stringify(report.event_log);
    const attestation = attestationFromQuote(fromHex(report.quote), log);
    expect(attestation.runtimeEvents.map((event) => event.event)).toContain('LIUM_MINER_HOTKEY');
    expect(toHex(attestation.reportData).startsWith('1234')).toBe(true);
    expect(attestation.config).toBe('');
  });

  it('writes and reads the event log JSON', () => {
    const text = fixtureText('mock-evidence/set-a/raw/tdx-good.eventlog.json');
    const events = eventLogFromJson(text);
    expect(eventLogFromJson(eventLogToJson(events, { strip: false }))).toEqual(events);
  });
});

describe('attested configuration', () => {
  it.each([
    ['', ''],
    ['{}', '{}'],
    ['{"os_image_hash":"00"}', '{"os_image_hash":"00"}'],
    ['{"kms_urls":[],"vm_config":"{\\"os_image_hash\\":\\"aa\\"}"}', '{"os_image_hash":"aa"}'],
    ['{"vm_config":{"os_image_hash":"aa"}}', '{"vm_config":{"os_image_hash":"aa"}}'],
    ['not json', 'not json'],
  ])('%s', (config, expected) => {
    expect(attestedConfig(config)).toBe(expected);
  });

  it.each([
    ['[', 'too many values'],
    ['{},', 'too many values'],
    ['1,', 'too many values'],
    [' ', 'exceeds'],
  ])('megabytes of %j are refused before they are parsed', (piece, message) => {
    const text = `[${piece.repeat(5_000_000 / piece.length)}`;
    const started = performance.now();
    expect(() => eventLogFromJson(text.slice(0, message === 'exceeds' ? undefined : 4_000_000))).toThrow(
      message,
    );
    expect(() => attestedConfig(text.slice(0, message === 'exceeds' ? undefined : 1_000_000))).toThrow(
      message,
    );
    expect(performance.now() - started).toBeLessThan(1_000);
  });
});

const bytes = (maxLength: number) => fc.uint8Array({ maxLength });
const event: fc.Arbitrary<TdxEvent> = fc.record({
  imr: fc.nat(3),
  eventType: fc.nat(0xffffffff),
  digest: bytes(48),
  event: fc.string({ maxLength: 20 }),
  eventPayload: bytes(40),
});
const attestation: fc.Arbitrary<Attestation> = fc.record({
  quote: fc.oneof(
    fc.record({
      mode: fc.constant('dstack-tdx' as const),
      quote: bytes(300),
      eventLog: fc.array(event, { maxLength: 5 }),
    }),
    fc.record({ mode: fc.constant('dstack-nitro-enclave' as const), nsmQuote: bytes(300) }),
    fc.record({ mode: fc.constant('dstack-aws-nitro-tpm' as const), attestationDoc: bytes(300) }),
    fc.record({
      mode: fc.constant('dstack-amd-sev-snp' as const),
      report: bytes(200),
      certChain: fc.array(bytes(20), { maxLength: 3 }),
      mrConfig: fc.string({ maxLength: 40 }),
    }),
  ),
  runtimeEvents: fc.array(fc.record({ event: fc.string({ maxLength: 20 }), payload: bytes(40) }), {
    maxLength: 5,
  }),
  reportData: fc.uint8Array({ minLength: 64, maxLength: 64 }),
  config: fc.string({ maxLength: 100 }),
});

describe('attestation codec properties', () => {
  it('reads back what it writes, in both versions', () => {
    fc.assert(
      fc.property(attestation, (value) => {
        expect(decodeAttestation(encodeAttestation(value))).toEqual(value);
        expect(decodeAttestation(encodeAttestationV1(value))).toEqual(value);
      }),
    );
  });

  it('throws nothing but its own error on noise', () => {
    fc.assert(
      fc.property(fc.constantFrom(0x00, 0x83, 0xde), fc.uint8Array({ maxLength: 400 }), (first, rest) => {
        try {
          decodeAttestation(Uint8Array.of(first, ...rest));
        } catch (error) {
          expect(error).toBeInstanceOf(AttestationError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
