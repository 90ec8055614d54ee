import { ByteReader, equalBytes, utf8 } from '@dstack-cloud/encoding';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';

export type BootLogHash = 'sha1' | 'sha256' | 'sha384' | 'sha512';

export interface BootLogEvent {
  /** MR index as in the log: PCR number, or 1..4 for RTMR 0..3. */
  readonly index: number;
  readonly type: number;
  readonly digests: ReadonlyMap<BootLogHash, Uint8Array>;
  readonly data: Uint8Array;
}

export interface BootLog {
  /** Banks which the header declares. */
  readonly banks: readonly BootLogHash[];
  /** TCG algorithm ids that the header declares and nothing here computes, such as SM3 (0x12). */
  readonly unsupportedBanks: readonly number[];
  readonly events: readonly BootLogEvent[];
  /** Irregularities which do not stop the parser: zero padding, truncation. */
  readonly anomalies: readonly string[];
}

/** Extends no register (TCG PC Client Platform Firmware Profile section 10.4.1). */
export const EV_NO_ACTION = 3;
/** Ends what ran before the operating system, once in a register (section 3.3.2.2). */
export const EV_SEPARATOR = 4;

const MAX_LOG_BYTES = 16_777_216;
const MAX_EVENTS = 65_536;
const MAX_EVENT_BYTES = 4_194_304;
const MAX_BANKS = 8;
const END = 0xffffffff;
const SPEC_ID = utf8('Spec ID Event03\0');
const ALGORITHMS: Readonly<Record<number, { name: BootLogHash; size: number }>> = {
  4: { name: 'sha1', size: 20 },
  11: { name: 'sha256', size: 32 },
  12: { name: 'sha384', size: 48 },
  13: { name: 'sha512', size: 64 },
};

interface Bank {
  readonly name: BootLogHash | undefined;
  readonly size: number;
}

/**
 * Parses a log in the crypto-agile TCG2 format: CCEL or binary_bios_measurements (docs/protocol/event-logs.md section
 * 2.1; TCG PC Client Platform Firmware Profile section 10). It ends at an MR index of ffffffff, at zero padding, or
 * with the input; a record cut short ends it with an anomaly.
 * @throws AttestationError `malformed`, `too-large`
 */
export function parseBootLog(bytes: Uint8Array): BootLog {
  if (bytes.length > MAX_LOG_BYTES) throw new AttestationError('too-large', `Log of ${bytes.length} bytes`);
  const reader = new ByteReader(bytes);
  const banks = decoding('Event log header', () => readHeader(reader));
  const events: BootLogEvent[] = [];
  const anomalies: string[] = [];
  while (reader.remaining > 0) {
    const start = reader.offset;
    if (isPadding(bytes.subarray(start))) {
      anomalies.push(`zero padding from offset ${start}`);
      break;
    }
    const event = readEvent(reader, banks, anomalies);
    if (!event) break;
    events.push(event);
    if (events.length > MAX_EVENTS) throw new AttestationError('too-large', `More than ${MAX_EVENTS} events`);
  }
  return {
    banks: [...banks.values()].flatMap((bank) => bank.name ?? []),
    unsupportedBanks: [...banks].flatMap(([id, bank]) => (bank.name ? [] : [id])),
    events,
    anomalies,
  };
}

/** The first record has the old form, and declares the digest sizes of the others. */
function readHeader(reader: ByteReader): ReadonlyMap<number, Bank> {
  reader.u32le();
  const type = reader.u32le();
  reader.take(20);
  const data = new ByteReader(reader.take(reader.u32le()));
  if (type !== EV_NO_ACTION || data.remaining < 28 || !equalBytes(data.take(16), SPEC_ID)) {
    throw new AttestationError('malformed', 'The event log has no "Spec ID Event03" header');
  }
  data.take(8);
  const count = data.u32le();
  if (count === 0 || count > MAX_BANKS) {
    throw new AttestationError('malformed', `The event log declares ${count} banks`);
  }
  const banks = new Map<number, Bank>();
  for (let i = 0; i < count; i++) {
    const id = data.u16le();
    const size = data.u16le();
    const known = ALGORITHMS[id];
    if (banks.has(id) || size === 0 || size > 64 || (known && known.size !== size)) {
      throw new AttestationError(
        'malformed',
        `The event log declares algorithm 0x${id.toString(16)} wrongly`,
      );
    }
    banks.set(id, { name: known?.name, size });
  }
  data.take(data.u8());
  data.finish();
  return banks;
}

/** The next event; undefined at the end of the log. */
function readEvent(
  reader: ByteReader,
  banks: ReadonlyMap<number, Bank>,
  anomalies: string[],
): BootLogEvent | undefined {
  const start = reader.offset;
  const truncated = () => {
    anomalies.push(`truncated event at offset ${start}`);
    return undefined;
  };
  if (reader.remaining < 4) return truncated();
  const index = reader.u32le();
  if (index === END) return undefined;
  if (reader.remaining < 8) return truncated();
  const type = reader.u32le();
  const count = reader.u32le();
  if (count > MAX_BANKS) {
    throw new AttestationError('malformed', `Event at offset ${start} has ${count} digests`);
  }
  const digests = new Map<BootLogHash, Uint8Array>();
  for (let i = 0; i < count; i++) {
    if (reader.remaining < 2) return truncated();
    const id = reader.u16le();
    const bank = banks.get(id);
    if (!bank) {
      throw new AttestationError(
        'malformed',
        `Event at offset ${start} has a digest of an undeclared algorithm`,
        {
          found: `0x${id.toString(16).padStart(4, '0')}`,
        },
      );
    }
    if (reader.remaining < bank.size) return truncated();
    const digest = reader.take(bank.size);
    if (!bank.name) continue;
    if (digests.has(bank.name)) {
      throw new AttestationError('malformed', `Event at offset ${start} has two ${bank.name} digests`);
    }
    digests.set(bank.name, digest);
  }
  if (reader.remaining < 4) return truncated();
  const size = reader.u32le();
  if (size > MAX_EVENT_BYTES && size <= reader.remaining) {
    throw new AttestationError('too-large', `Event at offset ${start} has ${size} bytes`);
  }
  if (size > reader.remaining) return truncated();
  return { index, type, digests, data: reader.take(size) };
}

function isPadding(rest: Uint8Array): boolean {
  // An event of PCR 0 begins with four zero bytes too; a type of zero (EV_PREBOOT_CERT) is not used since 1.2.
  if (rest.length >= 12) return rest.subarray(0, 12).every((byte) => byte === 0);
  return rest.every((byte) => byte === 0);
}
