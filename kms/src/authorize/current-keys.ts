import { toHex } from '@dstack-cloud/encoding';
import type { Decision, Policy } from '@dstack-cloud/policy';
import { BoundedMap } from '@dstack-cloud/runtime';
import type { KeyDecision } from './key-assignment.ts';

/** Applications remembered; the one that asked longest ago is forgotten. */
const MAX_REMEMBERED = 10_000;

/** What was last said of an application, by its id in hex; null when nothing was. */
export type CurrentKeys = readonly [appId: string, said: KeyDecision | null];

type Memory = {
  readonly known: Map<string, KeyDecision>;
  /** The other processes of this service. */
  tell: ((...news: CurrentKeys[]) => void) | undefined;
};

/**
 * What each policy source last said about an application's keys, when it allowed evidence of that application. Who
 * seals an environment shows no evidence, so that the source cannot be asked for him; he gets the key that machines got
 * last. Nothing is decided by this, and nothing of it outlives the service.
 */
const memories = new WeakMap<Policy, Memory>();

/** Remembers what a decision that allowed verified evidence said. */
export function noteCurrentKeys(policy: Policy, appId: Uint8Array, decision: Decision): void {
  const { keyEpoch, minKeyEpoch, keyRoot, previousKeyRoots } = decision;
  // Sources that say nothing leave it to the configuration, which is at hand.
  const isSilent = keyEpoch === undefined && keyRoot === undefined && previousKeyRoots === undefined;
  const said = {
    ...(keyEpoch === undefined ? {} : { keyEpoch }),
    ...(minKeyEpoch === undefined ? {} : { minKeyEpoch }),
    ...(keyRoot === undefined ? {} : { keyRoot }),
    ...(previousKeyRoots === undefined ? {} : { previousKeyRoots }),
  };
  const memory = memoryOf(policy);
  const name = toHex(appId);
  const before = memory.known.get(name);
  if (isSilent && before === undefined) return;
  const news: CurrentKeys = [name, isSilent ? null : said];
  remember(memory, news);
  if (JSON.stringify(before) !== JSON.stringify(news[1])) memory.tell?.(news);
}

/** What was said last; empty when nothing was. */
export function currentKeys(policy: Policy, appId: Uint8Array): KeyDecision {
  return memoryOf(policy).known.get(toHex(appId)) ?? {};
}

/** All that is remembered, for a process that begins. */
export function allCurrentKeys(policy: Policy): CurrentKeys[] {
  return [...memoryOf(policy).known];
}

/** Takes over what another process of this service heard. */
export function learnCurrentKeys(policy: Policy, news: readonly CurrentKeys[]): void {
  for (const one of news) remember(memoryOf(policy), one);
}

/** Tells the other processes what this one hears from now on. */
export function tellCurrentKeys(policy: Policy, tell: Memory['tell']): void {
  memoryOf(policy).tell = tell;
}

function memoryOf(policy: Policy): Memory {
  const memory = memories.get(policy) ?? {
    known: new BoundedMap<string, KeyDecision>(MAX_REMEMBERED),
    tell: undefined,
  };
  memories.set(policy, memory);
  return memory;
}

function remember({ known }: Memory, [name, said]: CurrentKeys): void {
  if (said === null) known.delete(name);
  else known.set(name, said);
}
