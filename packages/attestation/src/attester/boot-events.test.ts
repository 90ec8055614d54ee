import { createHash } from 'node:crypto';
import { concatBytes, fromHex, toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture } from '@dstack-cloud/test/fixtures';
import { expect, test } from 'vitest';
import { decodeAttestation } from '../codec/decode-attestation.ts';
import { bootEvents, runtimeTdxEvent } from './boot-events.ts';

describeWithFixtures('boot events', 'attestation/eventlog/dstack-ccel.bin', () => {
  test('of a real CCEL', () => {
    const events = bootEvents(fixture('attestation/eventlog/dstack-ccel.bin'));
    expect(events.filter(({ imr }) => imr === 0)).toHaveLength(13);
    expect(events.filter(({ imr }) => imr === 1)).toHaveLength(5);
    expect(events.map(({ event }) => event).filter((name) => name !== '')).toEqual([
      'acpi-loader',
      'acpi-rsdp',
      'acpi-tables',
    ]);
  });

  test('of GCP drop the records without a register', () => {
    const events = bootEvents(fixture('attestation/eventlog/gcp-cos113-ccel.bin'));
    expect(events.every(({ imr }) => imr >= 0 && imr <= 3)).toBe(true);
  });

  test('a cut-off log is no shorter log without a word', () => {
    const log = fixture('attestation/eventlog/dstack-ccel.bin');
    const events = bootEvents(log);
    for (const length of [0, 10, 60]) expect(() => bootEvents(log.subarray(0, length))).toThrow();
    expect(bootEvents(concatBytes(log, new Uint8Array(512).fill(0xff)))).toEqual(events);
  });

  test('runtime events look as the original wrote them', () => {
    const { quote, runtimeEvents } = decodeAttestation(
      fixture('attestation/dstack/attestation-v0-dstack-tdx.bin'),
    );
    if (quote.mode !== 'dstack-tdx') throw new Error('no TDX');
    expect(runtimeEvents.map(runtimeTdxEvent)).toEqual(quote.eventLog.filter(({ imr }) => imr === 3));
  });
});

test('a version 2 event carries what it hashes', () => {
  const event = runtimeTdxEvent({ event: 'app-id', payload: Uint8Array.of(0x42), version: 2 });
  // docs/protocol/event-logs.md section 3.1.
  expect(toHex(event.digest)).toMatch(/^c337d642ea14cb07/);
  expect(createHash('sha384').update(fromHex(event.preimage!)).digest('hex')).toBe(toHex(event.digest));
});
