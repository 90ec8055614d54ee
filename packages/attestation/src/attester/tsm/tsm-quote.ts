import { utf8Text } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import { DeviceFault, type DeviceFiles } from '../device-files.ts';

const REPORT_DATA_BYTES = 64;
const PROVIDER = 'tdx_guest';
/**
 * A quote is longer than its fixed parts and fits into the caller's buffer (docs/protocol/evidence.md section 12.2).
 */
const MIN_QUOTE = 1020;
const MAX_QUOTE = 8192;
const MAX_ATTRIBUTE = 4096;
const BUSY_TRIES = 3;
const RETRIED = { write: ['EBUSY'], read: ['EBUSY', 'EINTR', 'ETIMEDOUT'] } as const;

export interface TsmQuoteOptions {
  /** Whole time for one quote; default 30 s. The original polls for ever. */
  readonly timeoutMs?: number;
  /** Wait between tries of a busy device; default 10 s, as Intel's library does. */
  readonly busyDelayMs?: number;
  /** Wait between looks at the generation; default 1 ms, doubling to 50 ms. */
  readonly pollMs?: number;
}

/**
 * One TDX quote over the generation protocol of configfs-tsm: the generation shows whether the outblob is ours.
 * @param reportData 64 bytes
 * @throws AttestationError `device`
 */
export async function tsmQuote(
  files: DeviceFiles,
  reportData: Uint8Array,
  options: TsmQuoteOptions = {},
): Promise<Uint8Array> {
  if (reportData.length !== REPORT_DATA_BYTES) {
    throw new AttestationError('malformed', 'Report data must be 64 bytes', {
      found: `${reportData.length}`,
    });
  }
  const { timeoutMs = 30_000, busyDelayMs = 10_000, pollMs = 1 } = options;
  const deadline = new Deadline(timeoutMs);
  try {
    return await files.exclusive(async () => {
      await checkProvider(files);
      const before = await generation(files);
      await retried(() => files.write('inblob', reportData), RETRIED.write, busyDelayMs, deadline);
      const after = await nextGeneration(files, before, pollMs, deadline);
      if (after !== before + 1n) throw busy(`generation went from ${before} to ${after}`);
      const quote = await retried(
        () => files.read('outblob', MAX_QUOTE),
        RETRIED.read,
        busyDelayMs,
        deadline,
      );
      const last = await generation(files);
      if (last !== after) throw busy(`generation went from ${after} to ${last} while the quote was read`);
      if (quote.length <= MIN_QUOTE || quote.length >= MAX_QUOTE) {
        throw new AttestationError('device', 'The device gave a quote of impossible size', {
          expected: `${MIN_QUOTE + 1} to ${MAX_QUOTE - 1} bytes`,
          found: `${quote.length}`,
        });
      }
      return quote;
    });
  } catch (cause) {
    if (!(cause instanceof DeviceFault)) throw cause;
    throw new AttestationError('device', `No quote from the TSM device: ${cause.message}`, {
      found: cause.errno,
      cause,
    });
  }
}

async function checkProvider(files: DeviceFiles): Promise<void> {
  const provider = utf8Text(await files.read('provider', MAX_ATTRIBUTE)).trim();
  if (!provider.startsWith(PROVIDER)) {
    throw new AttestationError('device', 'The TSM report entry is of another kind of TEE', {
      expected: PROVIDER,
      found: provider.slice(0, 64),
    });
  }
}

async function generation(files: DeviceFiles): Promise<bigint> {
  const text = utf8Text(await files.read('generation', MAX_ATTRIBUTE)).trim();
  if (!/^\d{1,20}$/.test(text)) {
    throw new AttestationError('device', 'The TSM generation is no number', { found: text.slice(0, 64) });
  }
  return BigInt(text);
}

async function nextGeneration(
  files: DeviceFiles,
  before: bigint,
  pollMs: number,
  deadline: Deadline,
): Promise<bigint> {
  for (let wait = pollMs; ; wait = Math.min(wait * 2, 50)) {
    const now = await generation(files);
    if (now !== before) return now;
    await deadline.sleep(wait, 'the generation did not change');
  }
}

async function retried<T>(
  operation: () => Promise<T>,
  errnos: readonly string[],
  delayMs: number,
  deadline: Deadline,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await operation();
    } catch (error) {
      const again = error instanceof DeviceFault && errnos.includes(error.errno) && tries < BUSY_TRIES;
      if (!again) throw error;
      await deadline.sleep(delayMs, error.message);
    }
  }
}

function busy(found: string): AttestationError {
  return new AttestationError('device', 'Another program uses the TSM report entry', { found });
}

/** Bounds all waiting of one quote together. */
class Deadline {
  readonly #end: number;

  constructor(milliseconds: number) {
    this.#end = performance.now() + milliseconds;
  }

  async sleep(milliseconds: number, reason: string): Promise<void> {
    const left = this.#end - performance.now();
    if (left <= 0) throw new DeviceFault('ETIMEDOUT', `Timed out: ${reason}`);
    await new Promise((resolve) => setTimeout(resolve, Math.min(milliseconds, left)));
  }
}
