import { knownKeys } from '@dstack-cloud/app';
import { nearestName } from '@dstack-cloud/encoding';
import { parse, TomlError } from 'smol-toml';
import type { z } from 'zod';
import { VerifierError } from '../errors.ts';
import { type Config, ConfigSchema } from './schema.ts';

const PREFIX = 'DSTACK_VERIFIER_';

/**
 * The effective configuration: TOML over defaults, then the environment, `DSTACK_VERIFIER_<KEY>` with `__`
 * between the levels.
 * @param toml text of the file; undefined when there is none
 * @throws VerifierError `config` naming the key, what is wrong with it, and the nearest known one
 */
export function loadConfig(
  toml: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
): Config {
  const values = toml === undefined ? {} : readToml(toml);
  for (const [name, value] of Object.entries(environment)) {
    if (name.startsWith(PREFIX) && value !== undefined) setKey(values, name.slice(PREFIX.length), value);
  }
  const parsed = ConfigSchema.safeParse(values);
  if (!parsed.success) throw new VerifierError('config', parsed.error.issues.map(issueText).join('\n'));
  checkAnchors(parsed.data);
  return parsed.data;
}

/** Anchors other than the vendors' take a switch of their own, so that no test setting slips into production. */
function checkAnchors(config: Config): void {
  const { insecure_allow_external_trust_anchors: allowed, root_ca: roots, urls } = config.attestation;
  if (allowed) return;
  if (Object.values(roots).some((path) => path !== undefined) || urls.tpm_hosts.length > 0) {
    throw new VerifierError(
      'config',
      'external attestation trust anchors are configured but insecure_allow_external_trust_anchors is false',
    );
  }
}

function readToml(text: string): Record<string, unknown> {
  try {
    return parse(text) as Record<string, unknown>;
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    throw new VerifierError('config', `The configuration is not TOML: ${cause.message}`, { cause });
  }
}

/** One value of the environment: TOML if it reads as a value, else text. */
function setKey(values: Record<string, unknown>, name: string, text: string): void {
  const keys = name.toLowerCase().split('__');
  const last = keys.pop()!;
  let table = values;
  for (const key of keys) {
    if (!Object.hasOwn(table, key) || typeof table[key] !== 'object' || table[key] === null) table[key] = {};
    table = table[key] as Record<string, unknown>;
  }
  table[last] = environmentValue(text);
}

function environmentValue(text: string): unknown {
  if (/^-?\d+$/.test(text)) return Number(text);
  if (text === 'true' || text === 'false') return text === 'true';
  if (!text.startsWith('[')) return text;
  try {
    return parse(`value = ${text}`)['value'];
  } catch {
    return text;
  }
}

function issueText(issue: z.core.$ZodIssue): string {
  const path = issue.path.join('.');
  if (issue.code !== 'unrecognized_keys') return `${path || 'configuration'}: ${issue.message}`;
  return issue.keys
    .map((key) => {
      const full = path === '' ? key : `${path}.${key}`;
      const near = nearestName(key, knownKeys(ConfigSchema, issue.path));
      return `unknown key ${full}${near === undefined ? '' : `; did you mean ${near}?`}`;
    })
    .join('\n');
}
