import { toHex } from '@dstack-cloud/encoding';
import { RpcError } from '@dstack-cloud/prpc';
import type { KmsConfig } from '../config/kms-config.ts';
import type { KmsKeys, Root } from '../key-directory/kms-keys.ts';
import type { KeyDecision } from '../policy/current-keys.ts';
import { type KeyEpochs, keyEpochs, MAX_PREVIOUS, olderEpochs } from './key-epochs.ts';

/** Where the keys of an application come from, and what else of them is still released. */
export type KeyAssignment = {
  readonly root: Root;
  readonly epochs: KeyEpochs;
  /** Other roots that a machine may still ask for, to move its data. */
  readonly previousRoots: readonly Root[];
};

/** One set of keys of an application. */
export type KeyVersion = { readonly root: Root; readonly epoch: number };

/** Keys that a machine says it holds; a machine that knows of no roots names none. */
export type HeldKeys = { readonly epoch: number | undefined; readonly rootId: Uint8Array | undefined };

type Source = { readonly config: KmsConfig; readonly keys: KmsKeys };

/** Stands for all applications that have no entry of their own. */
const ALL = '*';

/**
 * Root and epoch as the policy source says, else as configured, else the active root and epoch 0.
 * @throws RpcError `KEY_NOT_FOUND` when the application is held at a root that this KMS has not: no other key will do
 */
export function keyAssignment(
  { config, keys }: Source,
  appId: Uint8Array,
  decision: KeyDecision,
): KeyAssignment {
  const said = decision.keyRoot !== undefined || decision.previousKeyRoots !== undefined;
  const entry = config.core.key_roots[toHex(appId)] ?? config.core.key_roots[ALL];
  const id = said ? decision.keyRoot : entry?.root;
  const previous = (said ? decision.previousKeyRoots : entry?.previous) ?? [];
  const root = id === undefined ? keys : rootOf(keys, id);
  if (root === undefined) {
    throw new RpcError(`The application is held at root ${id}, which this KMS does not have`, {
      code: 'KEY_NOT_FOUND',
    });
  }
  const previousRoots = allRoots(keys).filter((other) => other !== root && previous.includes(other.id));
  return { root, previousRoots, epochs: keyEpochs(config, appId, decision) };
}

/** The active root alone, which nobody is held at or moves from. */
export function activeAssignment(keys: KmsKeys): KeyAssignment {
  return { root: keys, epochs: { current: 0, oldest: 0 }, previousRoots: [] };
}

/**
 * What a machine needs beside the present keys: from the ones that it holds up to the present, the oldest first.
 * @throws RpcError `KEY_NOT_FOUND` for keys that are not, or no longer, released
 */
export function olderKeys(keys: KmsKeys, assignment: KeyAssignment, held: HeldKeys): KeyVersion[] {
  const { root, epochs, previousRoots } = assignment;
  const heldId = held.rootId === undefined ? root.id : toHex(held.rootId);
  const inRoot = (epoch: number): KeyVersion => ({ root, epoch });
  if (heldId === root.id) return olderEpochs(epochs, held.epoch).map(inRoot);
  if (!previousRoots.some(({ id }) => id === heldId)) {
    throw new RpcError(`Keys of root ${heldId} are not released; the present root is ${root.id}`, {
      code: 'KEY_NOT_FOUND',
    });
  }
  const first = held.epoch ?? 0;
  const upToCurrent = olderEpochs(epochs, first).map(inRoot);
  const all = Array.from({ length: epochs.current - first + 1 }, (_, index) => first + index);
  const order = allRoots(keys).map(({ id }) => id);
  const [from, to] = [order.indexOf(heldId), order.indexOf(root.id)];
  const between = previousRoots
    .map((other) => ({ other, distance: Math.abs(order.indexOf(other.id) - to) }))
    .filter(({ other }) => (order.indexOf(other.id) - from) * (order.indexOf(other.id) - to) <= 0)
    .sort((a, b) => b.distance - a.distance);
  const older = between.flatMap(({ other }) => all.map((epoch) => ({ root: other, epoch })));
  const found = [...older, ...upToCurrent];
  if (found.length > MAX_PREVIOUS) {
    throw new RpcError(`Epoch ${first} of root ${heldId} is more than ${MAX_PREVIOUS} keys old`, {
      code: 'KEY_NOT_FOUND',
    });
  }
  return found;
}

/** The active root and the retired ones, the newest first. */
function allRoots(keys: KmsKeys): readonly Root[] {
  return [keys, ...keys.history];
}

function rootOf(keys: KmsKeys, id: string): Root | undefined {
  return allRoots(keys).find((root) => root.id === id);
}

/** How an answer names the root of its keys: not at all to those who need not know that there are several. */
export function rootIdField(
  keys: KmsKeys,
  root: Root,
  asked: Uint8Array | undefined,
): { rootId?: Uint8Array } {
  if (asked === undefined && keys.history.length === 0) return {};
  return { rootId: new Uint8Array(Buffer.from(root.id, 'hex')) };
}
