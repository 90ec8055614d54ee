import { setTimeout as sleep } from 'node:timers/promises';
import type { CaaRecord } from '../caa.ts';
import { CertbotError } from '../errors.ts';
import type { DnsProvider } from './dns-provider.ts';

/** All records of one name and type; the text of each as in a zone file. */
export type RecordSet = { readonly ttl: number; readonly texts: readonly string[] };

/** A provider that knows no single records: a set is replaced as a whole, if it still is what it was. */
export type RecordSets = {
  readonly what: string;
  get(name: string, type: 'TXT' | 'CAA'): Promise<RecordSet | undefined>;
  /**
   * Puts one set in the place of another, and waits until it is served.
   * @returns false when somebody else was faster
   */
  replace(
    name: string,
    type: 'TXT' | 'CAA',
    before: RecordSet | undefined,
    after: RecordSet | undefined,
  ): Promise<boolean>;
};

const MAX_TRIES = 6;
const PAUSE_MS = 200;
const CAA_TTL = 300;

/** Adds and removes single records by replacing sets; what others add meanwhile is not lost. */
export function providerOfSets(sets: RecordSets): DnsProvider {
  const change = async (
    name: string,
    type: 'TXT' | 'CAA',
    ttl: number,
    edit: (texts: readonly string[]) => readonly string[],
  ): Promise<void> => {
    for (let tries = 1; ; tries++) {
      const before = await sets.get(name, type);
      const texts = [...new Set(edit(before?.texts ?? []))];
      if (sameTexts(texts, before?.texts ?? [])) return;
      const after = texts.length === 0 ? undefined : { ttl: before?.ttl ?? ttl, texts };
      if (await sets.replace(name, type, before, after)) return;
      if (tries === MAX_TRIES)
        throw new CertbotError(
          'dns-failed',
          `${sets.what}: the ${type} records of ${name} change all the time`,
        );
      await sleep(PAUSE_MS * tries);
    }
  };
  return {
    addTxt: async (name, value, ttl) => {
      const text = quoted(value);
      await change(name, 'TXT', ttl, (texts) => [...texts, text]);
      return () => change(name, 'TXT', ttl, (texts) => texts.filter((one) => one !== text));
    },
    listCaa: async (name) =>
      ((await sets.get(name, 'CAA'))?.texts ?? []).map((text) => parseCaa(sets.what, text)),
    changeCaa: (name, add, remove) =>
      change(name, 'CAA', CAA_TTL, (texts) => {
        const isGone = (text: string): boolean => {
          const found = parseCaa(sets.what, text);
          return remove.some(({ tag, value }) => tag === found.tag && value === found.value);
        };
        const added = add.map(({ tag, value }) => `0 ${tag} ${quoted(value)}`);
        return [...texts.filter((text) => !isGone(text)), ...added];
      }),
  };
}

/** RFC 1035 section 5.1. */
function quoted(text: string): string {
  return `"${text.replaceAll(/["\\]/g, '\\$&')}"`;
}

function parseCaa(what: string, text: string): CaaRecord {
  const match = /^\d{1,3}\s+([A-Za-z0-9]{1,15})\s+(?:"((?:[^"\\]|\\["\\])*)"|(\S+))$/.exec(text);
  if (match === null)
    throw new CertbotError('dns-failed', `${what}: a CAA record cannot be read: ${text.slice(0, 100)}`);
  return { tag: match[1]!, value: (match[2] ?? match[3] ?? '').replaceAll(/\\(["\\])/g, '$1') };
}

function sameTexts(some: readonly string[], others: readonly string[]): boolean {
  return some.length === others.length && some.every((text) => others.includes(text));
}
