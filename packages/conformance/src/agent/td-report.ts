import { parseTdxQuote, type TdReport } from '@dstack-cloud/attestation';
import { Deviation, reading } from '../case.ts';

/** The TD report of a quote. @throws Deviation when it is none of TDX */
export function tdReportOf(quote: Uint8Array): TdReport {
  const { td } = reading('quote', () => parseTdxQuote(quote));
  if (td === undefined) throw new Deviation('The quote is none of TDX');
  return td;
}
