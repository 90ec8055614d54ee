import { canonicalJson } from '@dstack-cloud/app';
import { toHex } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type AuditEntry, GENESIS, parseRecord, sealRecord } from './record.ts';

const hex = (maxLength: number) =>
  fc
    .uint8Array({ maxLength })
    .map((bytes) => bytes.reduce((text, byte) => text + byte.toString(16).padStart(2, '0'), ''));
const entries: fc.Arbitrary<AuditEntry> = fc.record(
  {
    event: fc.stringMatching(/^[a-z0-9-]{1,64}$/),
    decision: fc.constantFrom('allowed', 'denied', 'failed'),
    app_id: fc.option(hex(64), { nil: undefined }),
    os_image_hash: hex(64),
    platform: fc.string({ maxLength: 64, unit: 'binary' }),
    simulated: fc.boolean(),
    reason: fc.option(fc.string({ maxLength: 300, unit: 'binary' }), { nil: undefined }),
    block_number: fc.nat(),
    key_epoch: fc.nat(),
    key_root: hex(64),
    previous_keys: fc.array(fc.stringMatching(/^[0-9a-f]{40}:[0-9]{1,10}$/), { maxLength: 20 }),
    root_keys: fc.array(fc.stringMatching(/^[0-9a-f]{40}$/), { maxLength: 20 }),
    key_name: fc.string({ maxLength: 300, unit: 'binary' }),
    certificate_key: hex(32),
    certificate_names: fc.array(fc.string({ maxLength: 120, unit: 'grapheme' }), { maxLength: 8 }),
  },
  { requiredKeys: ['event', 'decision'] },
);

test('the line of a record is its canonical JSON, and reads back with the hash that was computed', () => {
  fc.assert(
    fc.property(
      entries,
      fc.nat(),
      fc.date({ noInvalidDate: true, min: new Date(0), max: new Date('9999-12-31') }),
      (entry, seq, time) => {
        const { record, hash, line } = sealRecord(entry, seq, time, GENESIS);
        expect(line).toBe(`${canonicalJson(record)}\n`);
        expect(record.hash).toBe(toHex(hash));
        expect(parseRecord(line.slice(0, -1), seq, GENESIS)).toEqual(JSON.parse(line));
      },
    ),
  );
});
