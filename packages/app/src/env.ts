import { utf8 } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { AppError } from './errors.ts';
import { parseDocument } from './parse-document.ts';

/** One environment variable. */
export interface EnvVar {
  readonly key: string;
  readonly value: string;
}

/** Limits of an environment: a guest refuses a larger one, so the command line does before it seals one. */
export const ENV_LIMITS: Readonly<Record<'items' | 'keyBytes' | 'valueBytes' | 'totalBytes', number>> = {
  items: 1024,
  keyBytes: 255,
  valueBytes: 128 * 1024,
  totalBytes: 1024 * 1024,
};

const NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/;

/** Whether an environment takes this name: what a guest demands, and so what everybody who writes one must. */
export function isEnvName(name: string): boolean {
  return NAME.test(name) && name.length <= ENV_LIMITS.keyBytes && name !== '__proto__';
}

/** Reads the plaintext of `.encrypted-env`, `{"env":[{"key","value"}]}`. @throws AppError `env-invalid` */
export function parseEnvDocument(source: Uint8Array): EnvVar[] {
  const item = z.object({ key: z.string(), value: z.string() });
  return parseDocument(source, z.object({ env: z.array(item) }), 'env-invalid', 'Encrypted environment').env;
}

/** What is left of a decrypted environment, sorted by name, and the names that were dropped. */
export interface ValidatedEnv {
  readonly vars: readonly EnvVar[];
  /** Names that allowed_envs does not list. */
  readonly dropped: readonly string[];
}

/**
 * Keeps the names that app-compose allows, then holds the limits; later duplicates win.
 *
 * @throws AppError `env-invalid` for a bad name or a limit
 */
export function validateEnv(vars: readonly EnvVar[], allowed: readonly string[]): ValidatedEnv {
  if (vars.length > ENV_LIMITS.items) fail('has too many variables', ENV_LIMITS.items, vars.length);
  const names = new Set(allowed);
  const values = new Map<string, string>();
  const dropped = new Set<string>();
  let total = 0;
  for (const { key, value } of vars) {
    if (!names.has(key)) {
      dropped.add(key);
      continue;
    }
    const keyBytes = utf8(key).length;
    const valueBytes = utf8(value).length;
    if (keyBytes > ENV_LIMITS.keyBytes) fail('has a name that is too long', ENV_LIMITS.keyBytes, keyBytes);
    if (!isEnvName(key)) {
      throw new AppError('env-invalid', `Environment has the bad name ${JSON.stringify(key)}`, {
        expected: NAME.source,
        found: key,
      });
    }
    if (valueBytes > ENV_LIMITS.valueBytes)
      fail(`value of ${key} is too long`, ENV_LIMITS.valueBytes, valueBytes);
    if (value.includes('\0')) throw new AppError('env-invalid', `Environment value of ${key} holds a NUL`);
    total += keyBytes + valueBytes;
    if (total > ENV_LIMITS.totalBytes) fail('is too large', ENV_LIMITS.totalBytes, total);
    values.set(key, value);
  }
  const sorted = [...values].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return { vars: sorted.map(([key, value]) => ({ key, value })), dropped: [...dropped] };
}

function fail(problem: string, limit: number, found: number): never {
  throw new AppError('env-invalid', `Environment ${problem}`, {
    expected: `at most ${limit}`,
    found: String(found),
  });
}

/**
 * One value in the syntax of systemd's EnvironmentFile: plain text as it is, everything else in double quotes with
 * backslash, quote, dollar and backtick escaped; newlines stay.
 */
export function escapeEnvValue(value: string): string {
  if (/^[A-Za-z0-9_./:@%+,=-]*$/.test(value)) return value;
  return `"${value.replace(/[\\"$`]/g, '\\$&')}"`;
}

/** Text of `.decrypted-env`: one `KEY=value` line per variable, in the given order. Secret. */
export function formatEnvFile(vars: readonly EnvVar[]): string {
  return vars.map(({ key, value }) => `${key}=${escapeEnvValue(value)}\n`).join('');
}

/** What stands behind `NAME=` so that the command line and Compose read this value back. */
export function formatDotEnvValue(value: string): string {
  // An empty value in quotes, so that a comment behind it does not become the value.
  if (/^[A-Za-z0-9_./:@%+,=-]+$/.test(value)) return value;
  if (!/['\\\r]/.test(value)) return `'${value}'`;
  return `"${value.replace(/[\\"$]/g, '\\$&').replaceAll('\r', '\\r')}"`;
}
