import { equalBytes, isZero, toHex } from '@dstack-cloud/encoding';
import type { RuntimeEvent, TdxEvent } from '../attestation.ts';
import { AttestationError } from '../errors.ts';
import { replayRuntimeEvents, runtimeEventDigest } from '../events/runtime-events.ts';
import { parseTdxQuote } from '../tdx-quote/quote.ts';
import { bootEvents, runtimeTdxEvent } from './boot-events.ts';
import type { EvidenceDevice } from './evidence-device.ts';
import { RuntimeEventLog } from './log/runtime-event-log.ts';
import { readFileBounded } from './read-file-bounded.ts';
import { openRtmrs, type RtmrRegisters } from './rtmr.ts';
import { openQuotes, type QuoteSource } from './tdx-quotes.ts';
import { isEndpoint, openEndpoint } from './tsm/open-files.ts';

/** The register that runtime events extend. */
const RUNTIME_RTMR = 3;
const MAX_CCEL = 1 << 20;
const DEFAULT_TIMEOUT_MS = 30_000;

export interface TdxDeviceOptions {
  /** A report entry or the folder of entries of configfs-tsm, `unix:PATH` of an endpoint, or `vsock:PORT`. */
  readonly tsm: string;
  /** The measurements folder of sysfs, the same endpoint, or `ioctl:/dev/tdx_guest`. */
  readonly rtmr: string;
  /** File of the runtime events. */
  readonly eventLog: string;
  /** File of the firmware's log, or the endpoint; without it evidence carries runtime events alone. */
  readonly ccel?: string;
  /** The vm_config text that evidence carries. */
  readonly vmConfig: () => string;
  /** Whole time for one quote, default 30 s. */
  readonly timeoutMs?: number;
}

/**
 * The TDX hardware of this guest.
 * @throws AttestationError `device`
 */
export async function openTdxDevice(options: TdxDeviceOptions): Promise<EvidenceDevice> {
  const { quotes, rtmrs, log, firmware, close } = await openTdxParts(options);
  return {
    mode: 'dstack-tdx',
    attest: (reportData) =>
      log.exclusive(async (events) => {
        const evidence = await tdxEvidence(quotes, reportData, events, firmware);
        return {
          quote: { mode: 'dstack-tdx', ...evidence },
          runtimeEvents: events,
          reportData: reportData.slice(),
          config: options.vmConfig(),
        };
      }),
    emitEvent: (event) =>
      log.emit(event, (logged) => rtmrs.extend(RUNTIME_RTMR, runtimeEventDigest(logged, 'sha384'))),
    events: () => log.exclusive(async (events) => events),
    close,
  };
}

/** The parts of the TDX hardware, open. */
export interface TdxParts {
  readonly quotes: QuoteSource;
  readonly rtmrs: RtmrRegisters;
  readonly log: RuntimeEventLog;
  readonly firmware: readonly TdxEvent[];
  close(): Promise<void>;
}

/** Opens them, and forgets the log of an earlier boot. @throws AttestationError `device` */
export async function openTdxParts(options: TdxDeviceOptions): Promise<TdxParts> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const quotes = await openQuotes(options.tsm, { timeoutMs });
  const rtmrs = openRtmrs(options.rtmr, timeoutMs);
  const close = async (): Promise<void> => {
    await quotes.close();
    await rtmrs.close();
  };
  try {
    const log = new RuntimeEventLog(options.eventLog);
    const firmware = await readFirmwareLog(options.ccel, timeoutMs);
    await log.forgetEarlierBoot(async () => {
      const register = await rtmrs.read(RUNTIME_RTMR);
      return register !== undefined && isZero(register);
    });
    return { quotes, rtmrs, log, firmware, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A quote and the log that explains its RTMR3; both were taken while nothing could be added. */
export async function tdxEvidence(
  quotes: QuoteSource,
  reportData: Uint8Array,
  events: readonly RuntimeEvent[],
  firmware: readonly TdxEvent[],
): Promise<{ quote: Uint8Array; eventLog: TdxEvent[] }> {
  const quote = await quotes.quote(reportData);
  const { td } = parseTdxQuote(quote);
  if (!td || !equalBytes(td.reportData, reportData)) {
    throw new AttestationError('device', 'The device quoted other report data', {
      expected: toHex(reportData),
      found: td ? toHex(td.reportData) : 'no TD report',
    });
  }
  const replayed = replayRuntimeEvents(events, 'sha384');
  if (!equalBytes(td.rtmrs[RUNTIME_RTMR], replayed)) {
    throw new AttestationError('event-log', 'The runtime event log does not replay to RTMR3', {
      check: 'rtmr3',
      expected: toHex(td.rtmrs[RUNTIME_RTMR]),
      found: toHex(replayed),
    });
  }
  return { quote, eventLog: [...firmware, ...events.map(runtimeTdxEvent)] };
}

/** The firmware's events; they do not change while the guest runs. @throws AttestationError `device`, `event-log` */
export async function readFirmwareLog(
  location: string | undefined,
  timeoutMs: number = DEFAULT_TIMEOUT_MS,
): Promise<readonly TdxEvent[]> {
  if (location === undefined) return [];
  if (!isEndpoint(location)) return bootEvents(await readFileBounded(location, MAX_CCEL));
  const files = openEndpoint(location, timeoutMs);
  try {
    return bootEvents(await files.read('ccel', MAX_CCEL));
  } catch (cause) {
    if (cause instanceof AttestationError) throw cause;
    throw new AttestationError('device', `Cannot read the CCEL: ${(cause as Error).message}`, { cause });
  } finally {
    await files.close();
  }
}
