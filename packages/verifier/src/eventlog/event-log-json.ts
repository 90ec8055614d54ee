import { type BootLog, type BootLogEvent, parseBootLog, replayDigests } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';

const EV_NO_ACTION = 3;
const STARTUP_LOCALITY = 'StartupLocality\0';
const BANKS = ['sha256', 'sha384'] as const;
const RTMRS = 4;
/** PCRs that a reset sets to ones: 17 to 22 (TCG PC Client TPM Profile table 4). They cannot be replayed from zero. */
const MAX_PCR = 16;

/** An event log and what it replays to. */
export interface EventLogReport {
  readonly format: 'ccel' | 'tpm';
  readonly events: readonly {
    readonly index: number;
    readonly type: number;
    readonly digests: Readonly<Record<string, string>>;
    readonly data: string;
  }[];
  readonly registers: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly anomalies: readonly string[];
}

/**
 * Parses a CCEL or TPM log and replays it, register by register and bank by bank (chapter 20 section 2.4).
 * @throws AttestationError `malformed`, `too-large`
 */
export function eventLogReport(bytes: Uint8Array): EventLogReport {
  const log = parseBootLog(bytes);
  const format = formatOf(bytes, log);
  const anomalies = [...log.anomalies];
  return {
    format,
    events: log.events.map((event) => ({
      index: event.index,
      type: event.type,
      digests: Object.fromEntries([...event.digests].map(([name, digest]) => [name, toHex(digest)])),
      data: toHex(event.data),
    })),
    registers: format === 'ccel' ? ccelRegisters(log, anomalies) : tpmRegisters(log, anomalies),
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

function ccelRegisters(log: BootLog, anomalies: string[]): EventLogReport['registers'] {
  const odd = log.events.filter((event) => event.index > RTMRS && event.type !== EV_NO_ACTION);
  if (odd.length > 0) anomalies.push(`${odd.length} events of no RTMR`);
  const registers: Record<string, Record<string, string>> = {};
  for (let rtmr = 0; rtmr < RTMRS; rtmr++) {
    const digests = extending(log, rtmr + 1).flatMap((event) => event.digests.get('sha384') ?? []);
    registers[`rtmr${rtmr}`] = { sha384: toHex(replayDigests(digests, 'sha384')) };
  }
  return registers;
}

function tpmRegisters(log: BootLog, anomalies: string[]): EventLogReport['registers'] {
  const locality = startupLocality(log, anomalies);
  const registers: Record<string, Record<string, string>> = {};
  const indices = [...new Set(log.events.map((event) => event.index))].sort((a, b) => a - b);
  for (const index of indices) {
    const events = extending(log, index);
    if (index > MAX_PCR) {
      if (events.length > 0) anomalies.push(`PCR ${index} does not start at zero and is not replayed`);
      continue;
    }
    const values: Record<string, string> = {};
    for (const bank of BANKS.filter((name) => log.banks.includes(name))) {
      const digests = events.flatMap((event) => event.digests.get(bank) ?? []);
      if (digests.length < events.length) anomalies.push(`PCR ${index}: events without ${bank} digest`);
      const start = new Uint8Array(bank === 'sha256' ? 32 : 48);
      if (index === 0) start[start.length - 1] = locality;
      values[bank] = toHex(replayDigests(digests, bank, start));
    }
    registers[`pcr${index}`] = values;
  }
  return registers;
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
