import { existsSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { syncDirectory, temporaryName, writeSynced } from '@dstack-cloud/files';
import { z } from 'zod';
import { askJson } from '../dns/ask-json.ts';
import { CertbotError } from '../errors.ts';
import type { CertificateFacts } from './certificate-facts.ts';
import { type GatewayKeys, type GatewayKeysOptions, gatewayKeys } from './gateway-keys.ts';
import type { CtSource } from './log-source.ts';

export type MonitorOptions = GatewayKeysOptions & {
  /** Whose certificates, and those of names below it, are looked for. */
  readonly domain: string;
  readonly sources: readonly CtSource[];
  /** File that keeps what was seen, over restarts. */
  readonly statePath: string;
  /** Gets `POST` of each alarm until it answers with 2xx; empty for none. */
  readonly webhookUrl: string;
  /** Unix seconds. */
  readonly now: () => number;
  readonly log: (
    level: 'info' | 'warn' | 'error',
    fields: Readonly<Record<string, unknown>>,
    message: string,
  ) => void;
  /** How long what a gateway answers may be old. */
  readonly staleAnswerMs?: number;
};

/** What one look found. */
export type Look = {
  /** Certificates in force whose key no quote knows; also those of earlier looks. */
  readonly unknown: number;
  readonly knownKeys: number;
  /** Why it is not known whether there are more; none when everything was looked at. */
  readonly problems: readonly string[];
};

const MAX_STATE = 64 * 2 ** 20;
const MAX_ALARMS = 10_000;
const STALE_ANSWER_MS = 6_000;

const alarm = z.object({
  source: z.string(),
  spki: z.string(),
  names: z.array(z.string()),
  serial: z.string(),
  not_after: z.int(),
  found_at: z.int(),
  is_told: z.boolean(),
});
const stateSchema = z.object({
  version: z.literal(1),
  domain: z.string(),
  known: z.array(z.string()),
  cursors: z.array(z.object({ source: z.string(), cursor: z.unknown() })).max(64),
  alarms: z.array(alarm).max(MAX_ALARMS),
});
type State = z.infer<typeof stateSchema>;

/**
 * Looks once: which keys does a quote of the gateway know, and which certificates do the logs have. What is found is in the
 * state file before it is told, and is told until somebody has it.
 * @throws CertbotError `ct-failed` when the state cannot be read or written
 */
export async function lookOnce(options: MonitorOptions): Promise<Look> {
  const { domain, sources, statePath, log, now } = options;
  const state = await readState(statePath, domain);
  const problems: string[] = [];
  if (await learnKeys(state, options, problems)) {
    for (const source of sources) {
      try {
        await lookAt(source, state, options, problems);
      } catch (error) {
        if (!(error instanceof CertbotError)) throw error;
        problems.push(error.message);
      }
      await writeState(statePath, state);
    }
  }
  await writeState(statePath, state);
  await tell(state, options, problems);
  for (const problem of problems)
    log('error', { problem }, 'It is not known whether there are certificates of strangers');
  const inForce = state.alarms.filter((one) => one.not_after > now() && !state.known.includes(one.spki));
  return { unknown: inForce.length, knownKeys: state.known.length, problems };
}

/** @returns whether the gateway and the verifier answered */
async function learnKeys(state: State, options: MonitorOptions, problems: string[]): Promise<boolean> {
  let found: GatewayKeys;
  try {
    found = await gatewayKeys(options, new Set(state.known));
  } catch (error) {
    if (!(error instanceof CertbotError)) throw error;
    problems.push(error.message);
    return false;
  }
  state.known.push(...found.keys);
  for (const why of found.refused) options.log('warn', { why }, 'A key of the gateway does not count');
  return true;
}

async function lookAt(
  source: CtSource,
  state: State,
  options: MonitorOptions,
  problems: string[],
): Promise<void> {
  const { domain, log, now, staleAnswerMs = STALE_ANSWER_MS } = options;
  const { certificates, cursor, isBehind } = await source.look(
    domain,
    state.cursors.find((one) => one.source === source.name)?.cursor,
  );
  const isUnknown = ({ spki }: CertificateFacts): boolean => !state.known.includes(spki);
  if (certificates.some(isUnknown)) {
    // The gateway publishes a key before its authority sees it, but what it answered us may be older than that.
    await sleep(staleAnswerMs);
    if (!(await learnKeys(state, options, problems))) return;
  }
  for (const { spki, names, serial, notAfter } of certificates.filter(isUnknown)) {
    if (notAfter <= now()) {
      log('warn', { spki, names, serial, source: source.name }, 'A certificate of an unknown key has ended');
      continue;
    }
    // A precertificate and its certificate are one.
    if (state.alarms.some((one) => one.spki === spki && one.serial === serial)) continue;
    if (state.alarms.length >= MAX_ALARMS)
      throw new CertbotError('ct-failed', `There are more than ${MAX_ALARMS} certificates of unknown keys`);
    const found = { source: source.name, spki, names: names.slice(0, 100), serial, not_after: notAfter };
    state.alarms.push({ ...found, found_at: now(), is_told: false });
    log('error', found, 'A certificate has a key that no quote of the gateway knows');
  }
  state.cursors = [
    ...state.cursors.filter((one) => one.source !== source.name),
    { source: source.name, cursor },
  ];
  if (isBehind) problems.push(`${source.name} has more entries than one look takes; the next goes on`);
}

async function tell(state: State, options: MonitorOptions, problems: string[]): Promise<void> {
  const { webhookUrl, statePath, domain } = options;
  for (const one of state.alarms.filter(({ is_told: isTold }) => !isTold)) {
    if (webhookUrl !== '') {
      const { is_told: _isTold, ...body } = one;
      try {
        const request = { method: 'POST', url: webhookUrl, headers: {}, body: { domain, ...body } } as const;
        await askJson('The webhook', request, z.unknown());
      } catch (error) {
        problems.push((error as Error).message);
        return;
      }
    }
    one.is_told = true;
    await writeState(statePath, state);
  }
}

async function readState(path: string, domain: string): Promise<State> {
  if (!existsSync(path)) return { version: 1, domain, known: [], cursors: [], alarms: [] };
  const damaged = (why: string, cause?: unknown): CertbotError =>
    new CertbotError('ct-failed', `${path} is ${why}; without it nobody knows what was seen`, { cause });
  const file = await open(path, 'r');
  try {
    if ((await file.stat()).size > MAX_STATE) throw damaged('too large');
    const state = stateSchema.parse(JSON.parse(await file.readFile('utf8')));
    if (state.domain !== domain) throw damaged(`of another domain, ${state.domain}`);
    return state;
  } catch (error) {
    throw error instanceof CertbotError ? error : damaged('damaged', error);
  } finally {
    await file.close();
  }
}

/** The file is as before or as after, whenever we are killed. */
async function writeState(path: string, state: State): Promise<void> {
  await replaceFile(path, JSON.stringify(state));
}

export async function replaceFile(path: string, text: string): Promise<void> {
  const folder = dirname(path);
  const temporary = join(folder, temporaryName(basename(path)));
  try {
    await writeSynced(temporary, text, 0o600);
    await rename(temporary, path);
    await syncDirectory(folder);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new CertbotError('ct-failed', `${path} cannot be written: ${(cause as Error).message}`, { cause });
  }
}
