import { type BigIntStats, promises as fs } from 'node:fs';
import { parseStrictJson, readFileBounded } from '@dstack-cloud/app';
import { utf8Text } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { PolicyError } from '../errors.ts';
import { type AllowList, allowListSchema } from './allow-list-schema.ts';

/** Largest allow-list: about 30,000 entries. */
const MAX_FILE_BYTES = 4 * 1024 * 1024;

/** A file this young could change again without a new time stamp, so its content is not kept. */
const SETTLED_NS = 2_000_000_000n;

/**
 * A reader that gives the file's present content at every call; it parses again only when the file's identity,
 * size or times differ.
 */
export function allowListFile(path: string): () => Promise<AllowList> {
  let kept: { stamp: string; list: AllowList } | undefined;
  return async () => {
    const before = await stamp(path);
    if (before && kept?.stamp === before) return kept.list;
    kept = undefined;
    const list = await readAllowList(path);
    if (before && before === (await stamp(path))) kept = { stamp: before, list };
    return list;
  };
}

/** What identifies a version of the file, or undefined when there is no settled version. */
async function stamp(path: string): Promise<string | undefined> {
  const status = await fs.stat(path, { bigint: true }).catch((): BigIntStats | undefined => undefined);
  if (!status) return undefined;
  const { dev, ino, size, mtimeNs, ctimeNs } = status;
  // The change time moves with every write and, unlike the modification time, cannot be set back.
  const age = BigInt(Date.now()) * 1_000_000n - ctimeNs;
  return age > SETTLED_NS ? [dev, ino, size, mtimeNs, ctimeNs].join('/') : undefined;
}

async function readAllowList(path: string): Promise<AllowList> {
  try {
    const bytes = await readFileBounded(path, MAX_FILE_BYTES, { label: 'Allow-list' });
    // Strict: of two lists under one name the later would win in silence.
    return allowListSchema.parse(parseStrictJson(utf8Text(bytes)));
  } catch (cause) {
    const why = cause instanceof z.ZodError ? z.prettifyError(cause) : String(cause);
    throw new PolicyError('bad-configuration', 'allow-list is missing or invalid', {
      cause,
      detail: `${path}: ${why}`,
    });
  }
}
