import { padRight } from '@dstack-cloud/encoding';
import { UtilError } from './errors.ts';

const REPORT_DATA_BYTES = 64;

/** Hex, with or without `0x`. @throws UtilError with `message` */
export function hexArgument(text: string, message: string): Uint8Array {
  const digits = text.replace(/^0[xX]/, '');
  const invalid = (reason: string): UtilError =>
    new UtilError(message, new UtilError('Invalid hex string', new UtilError(reason)));
  if (digits.length % 2 !== 0) throw invalid('Odd number of digits');
  const wrong = /[^0-9a-fA-F]/.exec(digits);
  if (wrong !== null) throw invalid(`Invalid character '${wrong[0]}' at position ${wrong.index}`);
  return new Uint8Array(Buffer.from(digits, 'hex'));
}

/** At most 64 bytes, filled up with zeros on the right. @throws UtilError */
export function reportDataArgument(text: string | undefined): Uint8Array {
  const bytes = hexArgument(text ?? '', 'Failed to decode report_data hex');
  if (bytes.length > REPORT_DATA_BYTES) throw new UtilError('report_data must be at most 64 bytes');
  return padRight(bytes, REPORT_DATA_BYTES);
}

/** 20 bytes. @throws UtilError */
export function appIdArgument(text: string): Uint8Array {
  const bytes = hexArgument(text, 'Invalid app_id hex string');
  if (bytes.length !== 20) throw new UtilError('app_id must be exactly 20 bytes (40 hex characters)');
  return bytes;
}
