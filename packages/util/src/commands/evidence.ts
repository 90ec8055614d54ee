import {
  type Attestation,
  encodeAttestationForAll,
  eventLogToJson,
  replayDigests,
  type TdxEvent,
} from '@dstack-cloud/attestation';
import {
  type EvidenceDevice,
  RuntimeEventLog,
  readFirmwareLog,
  runtimeTdxEvent,
} from '@dstack-cloud/attestation/attester';
import { toHex } from '@dstack-cloud/encoding';
import { isThere } from '@dstack-cloud/files';
import { type Command, requiredText, textOf } from '../command-line/command.ts';
import { UtilError } from '../errors.ts';
import { notOpened, readStandardInput, readSystemFile } from '../files.ts';
import { appIdArgument, hexArgument, reportDataArgument } from '../hex-argument.ts';
import { isEnclave, type Machine, openMachineDevice, thisMachine } from '../machine.ts';
import { note } from '../note.ts';
import { writeOutput } from '../write-output.ts';

const REPORT_DATA: Command['options'][number] = { name: 'report-data', value: 'REPORT_DATA' };

const quote: Command = {
  name: 'quote',
  about: 'Generate a TDX quote given report data from stdin',
  options: [],
  async run() {
    const data = await readStandardInput(1024);
    if (data.length !== 64)
      throw new UtilError(`report data must be exactly 64 bytes (received ${data.length})`);
    const { quote: evidence } = await attest(data, 'Failed to get quote');
    if (!('quote' in evidence))
      throw new UtilError(
        'Failed to get quote',
        new UtilError(`${evidence.mode} has no TDX quote; see \`attest\``),
      );
    await writeOutput(undefined, evidence.quote);
  },
};

const eventlog: Command = {
  name: 'eventlog',
  about: 'Get TDX event logs',
  options: [],
  async run() {
    const events = await readEvents();
    const entries = JSON.parse(eventLogToJson(events, { strip: false })) as unknown;
    await writeOutput(undefined, `${JSON.stringify(entries, null, 2)}\n`);
  },
};

const extend: Command = {
  name: 'extend',
  about: 'Extend RTMRs',
  options: [
    { name: 'event', short: 'e', value: 'EVENT', help: 'event name', required: true },
    {
      name: 'payload',
      short: 'p',
      value: 'PAYLOAD',
      help: 'hex encoded payload of the event',
      required: true,
    },
  ],
  async run(values) {
    const payload = hexArgument(requiredText(values, 'payload'), 'Failed to decode payload');
    const machine = thisMachine();
    try {
      const version = await runtimeEventVersion(machine);
      const event = {
        event: requiredText(values, 'event'),
        payload,
        ...(version === 2 && { version: 2 as const }),
      };
      await withDevice((device) => device.emitEvent(event), machine);
    } catch (cause) {
      throw new UtilError('Failed to extend RTMR', cause);
    }
  },
};

const show: Command = {
  name: 'show',
  about: 'Show the current RTMR state',
  options: [],
  async run() {
    const { describeMachine } = await import('./describe-machine.ts');
    const facts = describeMachine(await attest(new Uint8Array(64)));
    await writeOutput(undefined, `${JSON.stringify(facts, null, 2)}\n`);
  },
};

const replayImr: Command = {
  name: 'replay-imr',
  about: 'Replay event log and show calculated IMR/RTMR values',
  options: [],
  async run() {
    await writeOutput(undefined, '=== Event Log Replay: Calculated IMR/RTMR Values ===\n\n');
    await writeOutput(undefined, replayReport(await readEvents()));
  },
};

/** Counts and values of the four registers. */
function replayReport(events: readonly TdxEvent[]): string {
  const registers = [0, 1, 2, 3].map((imr) => events.filter((event) => event.imr === imr));
  const counts = registers.map((list, imr) => `  IMR ${imr}: ${list.length} events\n`).join('');
  const replayed = registers.map((list) =>
    toHex(
      replayDigests(
        list.map(({ digest }) => digest),
        'sha384',
      ),
    ),
  );
  return [
    `Total events: ${events.length}\nEvent distribution:\n${counts}\nReplaying event log...\n`,
    '\nCalculated IMR/RTMR values from event log replay:\n\n',
    ...replayed.map((value, imr) => `IMR ${imr} (CCEL) → ${value}\n`),
    '\n========================================\n',
    'Note: These are the calculated values from replaying the CCEL event log.\n',
    'The mapping between CCEL IMR indices and TDX RTMR indices may vary\n',
    'depending on the platform implementation.\n',
  ].join('');
}

const quoteReport: Command = {
  name: 'quote-report',
  about: '',
  options: [
    REPORT_DATA,
    { name: 'sys-config', value: 'SYS_CONFIG', default: '/dstack/.host-shared/.sys-config.json' },
    { name: 'output', short: 'o', value: 'OUTPUT' },
    { name: 'debug' },
  ],
  async run(values) {
    const data = reportDataArgument(textOf(values, 'report-data'));
    if (values['debug']) note('debug: quote diagnostics enabled; attestation policy is unchanged');
    const attestation = encodeAttestationForAll(await attest(data));
    const report = JSON.stringify({ attestation: toHex(attestation) }, null, 2);
    const output = textOf(values, 'output');
    await writeOutput(output, output === undefined ? `${report}\n` : report);
  },
};

const attestCommand: Command = {
  name: 'attest',
  about: 'Generate a versioned attestation for simulator use',
  options: [
    { ...REPORT_DATA, help: 'report data in hex (max 64 bytes)' },
    { name: 'app-id', value: 'APP_ID', help: 'app id (20 bytes in hex) - optional' },
    { name: 'output', short: 'o', value: 'OUTPUT', help: 'output file (default: attestation.bin)' },
    { name: 'hex', help: 'hex encode output' },
  ],
  async run(values) {
    const data = reportDataArgument(textOf(values, 'report-data'));
    const id = textOf(values, 'app-id');
    const appId = id === undefined ? undefined : appIdArgument(id);
    const bytes = encodeAttestationForAll(await attest(data, 'Failed to get attestation', appId));
    if (values['hex']) return await writeOutput(undefined, `${toHex(bytes)}\n`);
    await writeOutput(textOf(values, 'output') ?? 'attestation.bin', bytes);
  },
};

/** Commands that ask the machine for evidence. */
export const EVIDENCE_COMMANDS: Readonly<
  Record<'quote' | 'eventlog' | 'extend' | 'show' | 'replayImr' | 'quoteReport' | 'attest', Command>
> = { quote, eventlog, extend, show, replayImr, quoteReport, attest: attestCommand };

/**
 * Evidence of this machine. An enclave has no measured log: the app id that it asks with is the one event of its evidence.
 *
 * @throws UtilError with `message`
 */
export async function attest(
  reportData: Uint8Array,
  message = 'Failed to get attestation',
  appId?: Uint8Array,
): Promise<Attestation> {
  try {
    const machine = thisMachine();
    return await withDevice(async (device) => {
      if (appId !== undefined && isEnclave(machine))
        await device.emitEvent({ event: 'app-id', payload: appId });
      return await device.attest(reportData);
    }, machine);
  } catch (cause) {
    throw new UtilError(message, cause);
  }
}

async function withDevice<T>(use: (device: EvidenceDevice) => Promise<T>, machine: Machine): Promise<T> {
  const device = await openMachineDevice(machine);
  try {
    return await use(device);
  } finally {
    await device.close?.();
  }
}

async function readEvents(): Promise<TdxEvent[]> {
  const { ccel, eventLog } = thisMachine();
  try {
    const firmware = await readFirmwareLog(ccel).catch((error: unknown) => {
      const { cause } = error as { cause?: unknown };
      throw new UtilError(
        `failed to read CCEL from ${ccel}`,
        cause === undefined ? error : notOpened(ccel, cause),
      );
    });
    if (!isThere(eventLog)) return [...firmware];
    const events = await new RuntimeEventLog(eventLog).exclusive(async (list) => list);
    return [...firmware, ...events.map(runtimeTdxEvent)];
  } catch (cause) {
    throw new UtilError('Failed to read event logs', cause);
  }
}

/** How this boot's events are hashed: what set the machine up writes it down; without that, as the first line does. */
async function runtimeEventVersion({ eventLog }: Machine): Promise<1 | 2> {
  const file = eventLog.replace(/[^/]*$/, 'runtime_event_version');
  if (!isThere(file)) return 1;
  const text = new TextDecoder().decode(await readSystemFile(file)).trim();
  if (text === '1') return 1;
  if (text === '2') return 2;
  throw new UtilError(`invalid runtime event version: ${text.slice(0, 32)}`);
}
