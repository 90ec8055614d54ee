import { toHex } from '@dstack-cloud/encoding';
import type { Decision, Policy } from '@dstack-cloud/policy';
import type { KeyDecision } from './key-place.ts';

/** Applications remembered; the one that asked longest ago is forgotten. */
const MAX_REMEMBERED = 10_000;

/**
 * What each policy source last said about an application's keys, when it allowed evidence of that application. Who
 * seals an environment shows no evidence, so that the source cannot be asked for him; he gets the key that machines got
 * last. Nothing is decided by this, and nothing of it outlives the process.
 */
const remembered = new WeakMap<Policy, Map<string, KeyDecision>>();

/** Remembers what a decision that allowed verified evidence said. */
export function notePresentKeys(policy: Policy, appId: Uint8Array, decision: Decision): void {
  const { keyEpoch, minKeyEpoch, keyRoot, previousKeyRoots } = decision;
  const known = remembered.get(policy) ?? new Map<string, KeyDecision>();
  remembered.set(policy, known);
  const name = toHex(appId);
  known.delete(name);
  // Sources that say nothing leave it to the configuration, which is at hand.
  if (keyEpoch === undefined && keyRoot === undefined && previousKeyRoots === undefined) return;
  if (known.size >= MAX_REMEMBERED) known.delete(known.keys().next().value!);
  known.set(name, {
    ...(keyEpoch === undefined ? {} : { keyEpoch }),
    ...(minKeyEpoch === undefined ? {} : { minKeyEpoch }),
    ...(keyRoot === undefined ? {} : { keyRoot }),
    ...(previousKeyRoots === undefined ? {} : { previousKeyRoots }),
  });
}

/** What was said last; empty when nothing was. */
export function presentKeys(policy: Policy, appId: Uint8Array): KeyDecision {
  return remembered.get(policy)?.get(toHex(appId)) ?? {};
}
