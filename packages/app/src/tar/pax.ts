import { EncodingError, utf8Text } from '@dstack-cloud/encoding';
import { AppError } from '../errors.ts';
import { paxRecords } from './pax-records.ts';

/** What an extended header says instead of the header after it. */
export type PaxFields = { readonly path?: string; readonly size?: number };

const MAX_RECORDS = 256;

/**
 * Times and owners mean nothing here; a link's target or a sparse map would, so they are refused.
 * @throws AppError `image-archive-invalid`
 */
export function paxFields(bytes: Uint8Array): PaxFields {
  let fields: PaxFields = {};
  let records = 0;
  for (const [key, value] of paxRecords(bytes, () => invalid())) {
    records += 1;
    if (records > MAX_RECORDS) throw invalid();
    fields = { ...fields, ...fieldOf(decoded(key), decoded(value)) };
  }
  return fields;
}

function fieldOf(keyword: string, value: string): PaxFields {
  if (keyword === 'path') return { path: value };
  if (keyword === 'size') {
    if (!/^[0-9]{1,15}$/.test(value)) throw invalid();
    return { size: Number(value) };
  }
  if (keyword === 'linkpath' || keyword.startsWith('GNU.sparse')) throw invalid();
  return {};
}

function decoded(latin1: string): string {
  try {
    return utf8Text(Buffer.from(latin1, 'latin1'));
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
