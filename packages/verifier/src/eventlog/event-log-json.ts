import {
  type BootLog,
  type BootLogEvent,
  EV_NO_ACTION,
  EV_SEPARATOR,
  parseBootLog,
  replayDigests,
} from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';

const STARTUP_LOCALITY = 'StartupLocality\0';
const BANKS = ['sha256', 'sha384'] as const;
type Bank = (typeof BANKS)[number];
const RTMRS = 4;
/** PCRs that a reset sets to ones: 17 to 22 (TCG PC Client TPM Profile table 4). They cannot be replayed from zero. */
const MAX_PCR = 16;
/** TCG Algorithm Registry, of those that logs have. */
const ALGORITHM_NAMES: Readonly<Record<number, string>> = { 18: 'SM3-256', 39: 'SHA3-256', 40: 'SHA3-384' };

/** An event log and what it replays to. */
export interface EventLogReport {
  readonly format: 'ccel' | 'tpm';
  readonly events: readonly {
    readonly index: number;
    readonly type: number;
    readonly digests: Readonly<Record<string, string>>;
    readonly data: string;
  }[];
  /** Values by register and bank; a register has none of a bank that an event of it has no digest of. */
  readonly registers: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Registers with events that cannot be replayed for want of a digest: nothing is known of their values. */
  readonly not_replayed: readonly string[];
  readonly anomalies: readonly string[];
}

/**
 * Parses a CCEL or TPM log and replays it, register by register and bank by bank (TCG PC Client Platform Firmware
 * Profile section 10).
 * @throws AttestationError `malformed`, `too-large`
 */
export function eventLogReport(bytes: Uint8Array): EventLogReport {
  const log = parseBootLog(bytes);
  const format = formatOf(bytes, log);
  const anomalies = [...log.anomalies, ...unsupportedBanks(log), ...repeatedSeparators(log, format)];
  const registers = format === 'ccel' ? ccelRegisters(log, anomalies) : tpmRegisters(log, anomalies);
  return {
    format,
    events: log.events.map((event) => ({
      index: event.index,
      type: event.type,
      digests: Object.fromEntries([...event.digests].map(([name, digest]) => [name, toHex(digest)])),
      data: toHex(event.data),
    })),
    registers: Object.fromEntries([...registers].filter(([, values]) => Object.keys(values).length > 0)),
    not_replayed: [...registers].flatMap(([name, values]) =>
      Object.keys(values).length === 0 ? [name] : [],
    ),
    anomalies,
  };
}

/**
 * A CCEL has the SHA-384 bank alone and its header under MR index 1; a TPM's header has PCR 0. Some firmware
 * writes index 0 in a CCEL too: the single SHA-384 bank then decides.
 */
function formatOf(bytes: Uint8Array, log: BootLog): 'ccel' | 'tpm' {
  const header = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  return header === 1 || (log.banks.length === 1 && log.banks[0] === 'sha384') ? 'ccel' : 'tpm';
}

function unsupportedBanks({ unsupportedBanks: ids }: BootLog): string[] {
  return ids.map((id) => {
    const name = ALGORITHM_NAMES[id];
    return `digests of algorithm 0x${id.toString(16).padStart(4, '0')}${name ? ` (${name})` : ''} are not replayed`;
  });
}

/**
 * A register has one separator: a second one would make two ends of what ran before the operating system. Its digest
 * tells it too, since the type of an event is not measured.
 */
function repeatedSeparators(log: BootLog, format: 'ccel' | 'tpm'): string[] {
  const isRegister = (index: number): boolean =>
    format === 'ccel' ? index >= 1 && index <= RTMRS : index <= MAX_PCR;
  const indices = [...new Set(log.events.map(({ index }) => index))].filter(isRegister).sort((a, b) => a - b);
  return indices.flatMap((index) => {
    const digests = new Set(
      log.events
        .filter(({ type }) => type === EV_SEPARATOR)
        .flatMap((event) => [...event.digests.values()].map(toHex)),
    );
    const isSeparator = (event: BootLogEvent): boolean =>
      event.type === EV_SEPARATOR || [...event.digests.values()].some((digest) => digests.has(toHex(digest)));
    const count = extending(log, index).filter(isSeparator).length;
    const name = format === 'ccel' ? `RTMR${index - 1}` : `PCR ${index}`;
    return count > 1 ? [`${name}: ${count} separators, where one belongs`] : [];
  });
}

function ccelRegisters(log: BootLog, anomalies: string[]): Map<string, Record<string, string>> {
  const odd = log.events.filter((event) => event.index > RTMRS && event.type !== EV_NO_ACTION);
  if (odd.length > 0) anomalies.push(`${odd.length} events of no RTMR`);
  const registers = new Map<string, Record<string, string>>();
  for (let rtmr = 0; rtmr < RTMRS; rtmr++) {
    const name = `rtmr${rtmr}`;
    const value = replayed(extending(log, rtmr + 1), 'sha384', name, anomalies);
    registers.set(name, value ? { sha384: value } : {});
  }
  return registers;
}

function tpmRegisters(log: BootLog, anomalies: string[]): Map<string, Record<string, string>> {
  const locality = startupLocality(log, anomalies);
  const registers = new Map<string, Record<string, string>>();
  const banks = BANKS.filter((name) => log.banks.includes(name));
  const indices = [...new Set(log.events.map((event) => event.index))].sort((a, b) => a - b);
  for (const index of indices) {
    const events = extending(log, index);
    if (index > MAX_PCR) {
      if (events.length > 0) anomalies.push(`PCR ${index} does not start at zero and is not replayed`);
      continue;
    }
    const name = `pcr${index}`;
    const values: Record<string, string> = {};
    for (const bank of banks) {
      const value = replayed(events, bank, name, anomalies, index === 0 ? locality : 0);
      if (value) values[bank] = value;
    }
    if (banks.length === 0 && events.length > 0)
      anomalies.push(`${name}: no event has a digest that is replayed`);
    if (events.length > 0 || banks.length > 0) registers.set(name, values);
  }
  return registers;
}

/** The register's value in one bank; undefined, with an anomaly, when an event has no digest of it. */
function replayed(
  events: readonly BootLogEvent[],
  bank: Bank,
  name: string,
  anomalies: string[],
  locality = 0,
): string | undefined {
  const digests = events.flatMap((event) => event.digests.get(bank) ?? []);
  if (digests.length < events.length) {
    const without = events.length - digests.length;
    anomalies.push(`${name}: ${without} of ${events.length} events have no ${bank} digest`);
    return undefined;
  }
  const start = new Uint8Array(bank === 'sha256' ? 32 : 48);
  start[start.length - 1] = locality;
  return toHex(replayDigests(digests, bank, start));
}

function extending(log: BootLog, index: number): BootLogEvent[] {
  return log.events.filter((event) => event.index === index && event.type !== EV_NO_ACTION);
}

/** TCG PC Client Platform Firmware Profile section 10.4.5.3: PCR 0 starts at the locality of TPM2_Startup. */
function startupLocality(log: BootLog, anomalies: string[]): number {
  const events = log.events.filter(
    (event) =>
      event.type === EV_NO_ACTION &&
      event.data.length === STARTUP_LOCALITY.length + 1 &&
      String.fromCharCode(...event.data.subarray(0, -1)) === STARTUP_LOCALITY,
  );
  if (events.length > 1) anomalies.push('more than one StartupLocality event');
  return events[0]?.data.at(-1) ?? 0;
}
