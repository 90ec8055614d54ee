import { lstatSync, readFileSync } from 'node:fs';
import { parseStrictJson } from '@dstack-cloud/app';
import { parse } from 'smol-toml';
import { KmsError } from '../errors.ts';
import { checkConfig } from './check-config.ts';
import type { KmsConfig } from './kms-config.ts';

const MAX_CONFIG_BYTES = 1 << 20;

/** Files read when present, later ones win. */
const STANDARD_FILES = ['/etc/kms/kms.toml', '/etc/kms/kms.json', 'kms.toml', 'kms.json'];

type Table = Record<string, unknown>;

/**
 * The configuration from the standard files and `file`, tables merged deeply, environment applied.
 * @throws KmsError `config-unreadable`, `config-invalid`
 */
export function loadConfig(
  file: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
  standardFiles: readonly string[] = STANDARD_FILES,
): KmsConfig {
  const files = standardFiles.filter(isPresent);
  if (file !== undefined) files.push(file);
  return checkConfig(files.map(readTable).reduce(merge, {}), environment);
}

/** One that cannot be looked at is present: reading it then fails, instead of the defaults taking its place. */
function isPresent(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ENOTDIR';
  }
}

/** `.toml` is TOML, anything else JSON. */
function readTable(path: string): Table {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new KmsError('config-unreadable', `Configuration file ${path} cannot be read`, { cause });
  }
  if (text.length > MAX_CONFIG_BYTES) throw new KmsError('config-unreadable', `${path} is larger than 1 MiB`);
  try {
    const table: unknown = path.endsWith('.toml') ? parse(text) : parseStrictJson(text);
    if (typeof table === 'object' && table !== null && !Array.isArray(table)) return table as Table;
  } catch (cause) {
    // What follows the first line shows the line that is wrong, which may hold a token.
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : '';
    throw new KmsError('config-invalid', `Configuration file ${path}: ${reason}`);
  }
  throw new KmsError('config-invalid', `Configuration file ${path} is no table`);
}

function merge(base: Table, over: Table): Table {
  const result = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const before = result[key];
    result[key] = isTable(before) && isTable(value) ? merge(before, value) : value;
  }
  return result;
}

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}
