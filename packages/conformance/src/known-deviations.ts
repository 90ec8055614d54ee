import { readFileSync } from 'node:fs';

const MAX_BYTES = 1024 * 1024;

/**
 * Reads a list of known deviations: a JSON object whose members are ids of cases, each with the reason.
 * @throws Error that says what is wrong with the file
 */
export function readKnownDeviations(file: string, ids: ReadonlySet<string>): Map<string, string> {
  const bytes = readFileSync(file);
  if (bytes.length > MAX_BYTES) throw new Error(`${file} has more than ${MAX_BYTES} bytes`);
  let list: unknown;
  try {
    list = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new Error(`${file} is no JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof list !== 'object' || list === null || Array.isArray(list))
    throw new Error(`${file} is no JSON object of ids and reasons`);
  const known = new Map<string, string>();
  for (const [id, reason] of Object.entries(list)) {
    if (!ids.has(id)) throw new Error(`${file} names ${id}, and there is no such case`);
    if (typeof reason !== 'string' || reason.trim() === '')
      throw new Error(`${file} gives no reason for ${id}`);
    known.set(id, reason);
  }
  return known;
}
