import { EncodingError, utf8Text } from '@dstack-cloud/encoding';
import { AppError } from '../errors.ts';

/** What an extended header says instead of the header after it. */
export type PaxFields = { readonly path?: string; readonly size?: number };

const MAX_RECORDS = 256;

/**
 * Records `<length> <keyword>=<value>\n` (POSIX.1-2017 pax, "pax Header Block"). Times and owners mean nothing here;
 * a link's target or a sparse map would, so they are refused.
 * @throws AppError `image-archive-invalid`
 */
export function paxFields(bytes: Uint8Array): PaxFields {
  let fields: PaxFields = {};
  let at = 0;
  for (let records = 0; at < bytes.length; records++) {
    if (records >= MAX_RECORDS) throw invalid();
    const space = bytes.indexOf(0x20, at);
    const digits = space < 0 || space > at + 10 ? '' : String.fromCharCode(...bytes.subarray(at, space));
    const length = /^[1-9][0-9]*$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    if (end <= space + 1 || end > bytes.length || bytes[end - 1] !== 0x0a) throw invalid();
    fields = { ...fields, ...fieldOf(recordText(bytes.subarray(space + 1, end - 1))) };
    at = end;
  }
  return fields;
}

function fieldOf(record: string): PaxFields {
  const equals = record.indexOf('=');
  if (equals < 1) throw invalid();
  const [keyword, value] = [record.slice(0, equals), record.slice(equals + 1)];
  if (keyword === 'path') return { path: value };
  if (keyword === 'size') {
    if (!/^[0-9]{1,15}$/.test(value)) throw invalid();
    return { size: Number(value) };
  }
  if (keyword === 'linkpath' || keyword.startsWith('GNU.sparse')) throw invalid();
  return {};
}

function recordText(bytes: Uint8Array): string {
  try {
    return utf8Text(bytes);
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw invalid(cause);
  }
}

function invalid(cause?: unknown): AppError {
  return new AppError('image-archive-invalid', 'The image archive has an unusable extended header', {
    cause,
  });
}
