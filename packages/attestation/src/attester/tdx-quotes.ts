import { AttestationError } from '../errors.ts';
import { tdReportByIoctl } from './native/tdx-guest.ts';
import { connectVsock, HOST_CID } from './native/vsock.ts';
import { quoteFromService } from './quote-service.ts';
import { isEndpoint, openTsmFiles } from './tsm/open-files.ts';
import { type TsmQuoteOptions, tsmQuote } from './tsm/tsm-quote.ts';

const VSOCK = 'vsock:';
const GUEST_DEVICE = '/dev/tdx_guest';
const DEFAULT_TIMEOUT_MS = 30_000;

/** Where TDX quotes come from. */
export interface QuoteSource {
  quote(reportData: Uint8Array): Promise<Uint8Array>;
  close(): Promise<void>;
}

/**
 * Quotes from a TSM report entry (a directory, `unix:PATH` or `vsock:CID:PORT`), or from the host's quote service (`vsock:PORT`).
 * All calls go one after another: the entry is shared.
 * @throws AttestationError `device`
 */
export async function openQuotes(
  location: string,
  options: TsmQuoteOptions & { guestDevice?: string } = {},
): Promise<QuoteSource> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  if (location.startsWith(VSOCK) && !isEndpoint(location)) {
    const port = Number(location.slice(VSOCK.length));
    if (!Number.isSafeInteger(port) || port < 1 || port > 0xffff_fffe) {
      throw new AttestationError('device', `"${location}" names no vsock port`);
    }
    const device = options.guestDevice ?? GUEST_DEVICE;
    return serial(async (reportData) => {
      const report = await tdReportByIoctl(device, reportData);
      return await quoteFromService(await connectVsock(HOST_CID, port), report, timeoutMs);
    });
  }
  const files = await openTsmFiles(location, timeoutMs);
  return serial(
    (reportData) => tsmQuote(files, reportData, options),
    () => files.close(),
  );
}

function serial(
  quote: (reportData: Uint8Array) => Promise<Uint8Array>,
  close: () => Promise<void> = async () => {},
): QuoteSource {
  let last: Promise<unknown> = Promise.resolve();
  return {
    quote(reportData) {
      const next = last.then(() => quote(reportData));
      last = next.catch(() => undefined);
      return next;
    },
    close,
  };
}
