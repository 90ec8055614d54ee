import { EncodingError } from '../errors.ts';
import type { DerElement } from './der-reader.ts';
import { derTag } from './der-tag.ts';

const UTC_TIME = /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/;
const GENERALIZED_TIME = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/;

/**
 * The Unix seconds of a UTCTime or GeneralizedTime in the forms of RFC 5280 section 4.1.2.5: seconds present,
 * no fraction, zone `Z`. @throws EncodingError for another form and for dates that no calendar has
 */
export function derTime(element: DerElement): number {
  const isUtc = element.tag === derTag.utcTime;
  if (!isUtc && element.tag !== derTag.generalizedTime) {
    throw new EncodingError('unexpected-tag', `DER tag 0x${element.tag.toString(16)} is no time`);
  }
  const match = (isUtc ? UTC_TIME : GENERALIZED_TIME).exec(
    String.fromCharCode(...element.contents.subarray(0, 32)),
  );
  if (!match) throw new EncodingError('invalid-value', 'DER time is not in the form of RFC 5280');
  const [written, month, day, hour, minute, second] = match.slice(1).map(Number) as Fields;
  // RFC 5280 section 4.1.2.5.1: two-digit years from 50 on are of the 20th century.
  const year = isUtc ? written + (written >= 50 ? 1900 : 2000) : written;
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  date.setUTCHours(hour, minute, second);
  const same =
    date.getUTCFullYear() === year &&
    date.getUTCMonth() === month - 1 &&
    date.getUTCDate() === day &&
    date.getUTCHours() === hour &&
    date.getUTCMinutes() === minute &&
    date.getUTCSeconds() === second;
  if (!same) throw new EncodingError('invalid-value', 'DER time is no calendar date');
  return date.getTime() / 1000;
}

/** Writes a time for RFC 5280: UTCTime before 2050, GeneralizedTime from then on. */
export function timeText(unixSeconds: number): { tag: number; text: string } {
  const date = new Date(unixSeconds * 1000);
  const year = date.getUTCFullYear();
  if (!Number.isInteger(unixSeconds) || Number.isNaN(year) || year < 1950 || year > 9999) {
    throw new EncodingError('invalid-value', `Time ${unixSeconds} is outside the years 1950 to 9999`);
  }
  const digits = date.toISOString().replace(/\D/g, '').slice(0, 14);
  return year < 2050
    ? { tag: derTag.utcTime, text: `${digits.slice(2)}Z` }
    : { tag: derTag.generalizedTime, text: `${digits}Z` };
}

type Fields = [number, number, number, number, number, number];
