import { padRight } from '@dstack-cloud/encoding';
import { RpcError } from '@dstack-cloud/prpc';

/** Report data of a quote, bytes. */
export const REPORT_DATA_LENGTH = 64;

/** Report data as a caller gives it, padded with zeros on the right (docs/protocol/guest-agent.md section 4.3). */
export function paddedReportData(data: Uint8Array): Uint8Array {
  if (data.length > REPORT_DATA_LENGTH) {
    throw new RpcError('Report data is too long', { code: 'INVALID_ARGUMENT' });
  }
  return padRight(data, REPORT_DATA_LENGTH);
}
