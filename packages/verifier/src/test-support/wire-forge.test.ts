import { concatBytes, decodeMsgpack, encodeMsgpack, fromHex } from '@dstack-cloud/encoding';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { forgeTable, type Row } from './forge-table.ts';
import type { Keys } from './forged.ts';
import { type Json, sealTdx, type TdxDraft, tdxDraft } from './tdx-forge.ts';

type WireRow = Row<TdxDraft>;
const V0 = ['v0'] as const;
const V1 = ['v1'] as const;

/** Changes the decoded MessagePack form. */
const tree =
  (change: (root: Json) => Json | undefined) =>
  (d: TdxDraft): void => {
    d.alterBytes = (written) => {
      const root = decodeMsgpack(written, { maxBytes: 1 << 20, maxValues: 1 << 18 }) as Json;
      return encodeMsgpack(change(root) ?? root);
    };
  };
const bytes =
  (change: (written: Uint8Array) => Uint8Array) =>
  (d: TdxDraft): void => {
    d.alterBytes = change;
  };
/** Bytes in place of the compact length of the quote, which stands at offset 2. */
const length = (hex: string, from = 2, to = 4): ((d: TdxDraft) => void) =>
  bytes((w) => concatBytes(w.subarray(0, from), fromHex(hex), w.subarray(to)));

const SCALE: readonly WireRow[] = [
  [
    'quote length in the four-byte form',
    bytes((w) => {
      const n = w[2]! | (w[3]! << 8);
      const four = new Uint8Array(4);
      new DataView(four.buffer).setUint32(0, ((n >> 2) << 2) | 2, true);
      return concatBytes(w.subarray(0, 2), four, w.subarray(4));
    }),
    'malformed evidence.form',
    V0,
  ],
  ['quote length of 2^30 - 1', length('feffffff'), 'too-large evidence.form', V0],
  ['quote length of 2^32 in the big form', length('070000000001'), 'too-large evidence.form', V0],
  ['quote length of 2^536', length('ff'.padEnd(136, 'f')), 'too-large evidence.form', V0],
  [
    'quote length one more',
    bytes((w) => {
      const out = w.slice();
      new DataView(out.buffer).setUint16(2, new DataView(out.buffer).getUint16(2, true) + 4, true);
      return out;
    }),
    'malformed evidence.form',
    V0,
  ],
  [
    'variant 5',
    bytes((w) => {
      const out = w.slice();
      out[1] = 5;
      return out;
    }),
    'unsupported evidence.form',
    V0,
  ],
  [
    'variant of GCP',
    bytes((w) => {
      const out = w.slice();
      out[1] = 1;
      return out;
    }),
    'malformed evidence.form',
    V0,
  ],
  [
    'variant of Nitro',
    bytes((w) => {
      const out = w.slice();
      out[1] = 2;
      return out;
    }),
    'too-large evidence.form',
    V0,
  ],
  [
    'version byte 1',
    bytes((w) => {
      const out = w.slice();
      out[0] = 1;
      return out;
    }),
    'form-unknown evidence.form',
    V0,
  ],
  [
    'version byte ff',
    bytes((w) => {
      const out = w.slice();
      out[0] = 0xff;
      return out;
    }),
    'form-unknown evidence.form',
    V0,
  ],
  ['the attestation twice', bytes((w) => concatBytes(w, w)), 'malformed evidence.form', V0],
  ['one byte', bytes((w) => w.slice(0, 1)), 'malformed evidence.form', V0],
  [
    '10 MiB of zeros after it',
    bytes((w) => concatBytes(w, new Uint8Array(10 << 20))),
    'too-large evidence.form',
    V0,
  ],
  ['only zeros', bytes(() => new Uint8Array(9000)), 'malformed evidence.form', V0],
];

const MSGPACK: readonly WireRow[] = [
  ['written again', tree(() => undefined), 'good UpToDate', V1],
  [
    'quote as bin',
    tree((r) => {
      r.platform.data.quote = Uint8Array.from(r.platform.data.quote);
    }),
    'good UpToDate',
    V1,
  ],
  [
    'digest as list',
    tree((r) => {
      for (const e of r.platform.data.event_log) e.digest = [...e.digest];
    }),
    'good UpToDate',
    V1,
  ],
  [
    'quote with 256',
    tree((r) => {
      r.platform.data.quote = [...r.platform.data.quote];
      r.platform.data.quote[9] = 256;
    }),
    'malformed evidence.form',
    V1,
  ],
  [
    'quote with -1',
    tree((r) => {
      r.platform.data.quote = [...r.platform.data.quote];
      r.platform.data.quote[9] = -1;
    }),
    'malformed evidence.form',
    V1,
  ],
  [
    'quote with 1.5',
    tree((r) => {
      r.platform.data.quote = [...r.platform.data.quote];
      r.platform.data.quote[9] = 1.5;
    }),
    'malformed evidence.form',
    V1,
  ],
  [
    'quote a text',
    tree((r) => {
      r.platform.data.quote = 'x';
    }),
    'malformed evidence.form',
    V1,
  ],
  [
    'quote missing',
    tree((r) => {
      delete r.platform.data.quote;
    }),
    'malformed evidence.form',
    V1,
  ],
  [
    'version 2',
    tree((r) => {
      r.version = 2;
    }),
    'unsupported evidence.form',
    V1,
  ],
  [
    'version a text',
    tree((r) => {
      r.version = '1';
    }),
    'malformed evidence.form',
    V1,
  ],
  [
    'version missing',
    tree((r) => {
      delete r.version;
    }),
    'malformed evidence.form',
    V1,
  ],
  [
    'platform unknown',
    tree((r) => {
      r.platform.kind = 'tdx2';
    }),
    'unsupported evidence.form',
    V1,
  ],
  [
    'platform of another kind',
    tree((r) => {
      r.platform.kind = 'nitro-enclave';
    }),
    'malformed evidence.form',
    V1,
  ],
  [
    'stack unknown',
    tree((r) => {
      r.stack.kind = 'other';
    }),
    'unsupported evidence.form',
    V1,
  ],
  [
    'stack dstack-pod without payload',
    tree((r) => {
      r.stack.kind = 'dstack-pod';
    }),
    'malformed evidence.form',
    V1,
  ],
  [
    'stack dstack-pod with another payload',
    tree((r) => {
      r.stack.kind = 'dstack-pod';
      r.stack.data.report_data_payload = 'x';
    }),
    'mismatch pod.report-data',
    V1,
  ],
  [
    'report_data of 63 bytes',
    tree((r) => {
      r.stack.data.report_data = r.stack.data.report_data.slice(0, 63);
    }),
    'malformed evidence.form',
    V1,
  ],
  [
    'report_data of 65 bytes',
    tree((r) => {
      r.stack.data.report_data = [...r.stack.data.report_data, 0];
    }),
    'too-large evidence.form',
    V1,
  ],
  [
    'event version 3',
    tree((r) => {
      r.stack.data.runtime_events[0].version = 3;
    }),
    'unsupported evidence.form',
    V1,
  ],
  [
    'event version 1 written out',
    tree((r) => {
      r.stack.data.runtime_events[0].version = 1;
    }),
    'unsupported evidence.form',
    V1,
  ],
  [
    'unknown member',
    tree((r) => {
      r.extra = 1;
    }),
    'malformed nitro.cose',
    V1,
  ],
  [
    'runtime events missing',
    tree((r) => {
      delete r.stack.data.runtime_events;
    }),
    'malformed evidence.form',
    V1,
  ],
  ['a byte after it', bytes((w) => concatBytes(w, Uint8Array.of(0xc0))), 'malformed evidence.form', V1],
  ['cut', bytes((w) => w.slice(0, -1)), 'malformed evidence.form', V1],
  [
    'a key twice',
    bytes((w) => concatBytes(Uint8Array.of(0x84), w.subarray(1), fromHex('a776657273696f6e01'))),
    'malformed nitro.cose',
    V1,
  ],
  ['map of 2^32 - 1', bytes(() => fromHex('dfffffffff')), 'too-large evidence.form', V1],
  [
    'lists nested 10,000 deep',
    bytes(() => concatBytes(fromHex('81a176'), new Uint8Array(10_000).fill(0x91))),
    'too-large evidence.form',
    V1,
  ],
];

const tdx = (keys: Keys): TdxDraft => tdxDraft(keys);
describeWithFixtures('forged wire forms', 'mock-evidence/expected.json', () => {
  for (const rows of [SCALE, MSGPACK]) forgeTable(tdx, sealTdx, rows);
});
