import { toHex } from '@dstack-cloud/encoding';
import type { Decision } from '@dstack-cloud/policy';
import { RpcError } from '@dstack-cloud/prpc';
import type { KmsConfig } from '../config/kms-config.ts';

/** Most sets of older keys released at once for a migration. */
export const MAX_PREVIOUS = 16;

/** The key epoch of an application, and the oldest one that is still released. */
export type KeyEpochs = { readonly current: number; readonly oldest: number };

/** What a policy source may say about epochs. */
type EpochDecision = Pick<Decision, 'keyEpoch' | 'minKeyEpoch'>;

/**
 * Epochs as the policy source says, else as configured, else 0, which derives today's keys (docs/protocol/keys.md
 * section 4.1).
 */
export function keyEpochs({ core }: KmsConfig, appId: Uint8Array, decision: EpochDecision): KeyEpochs {
  const entry = core.key_epochs[toHex(appId)];
  const current = decision.keyEpoch ?? entry?.epoch ?? 0;
  const oldest = decision.keyEpoch === undefined ? entry?.min : decision.minKeyEpoch;
  return { current, oldest: Math.min(oldest ?? current, current) };
}

/**
 * The epochs from the one that a guest still uses up to the one before the present: what it needs to migrate.
 * @param held epoch that the guest names; without one it gets the present keys only
 * @throws RpcError `KEY_NOT_FOUND` for an epoch that is not, or no longer, released
 */
export function olderEpochs(epochs: KeyEpochs, held: number | undefined): number[] {
  const { current } = epochs;
  if (held === undefined || held === current) return [];
  assertServed(epochs, held);
  if (current - held > MAX_PREVIOUS) {
    throw new RpcError(`Key epoch ${held} is more than ${MAX_PREVIOUS} epochs old`, {
      code: 'KEY_NOT_FOUND',
    });
  }
  return Array.from({ length: current - held }, (_, index) => held + index);
}

/** That an epoch is one of those which are released. @throws RpcError `KEY_NOT_FOUND` */
export function assertServed({ current, oldest }: KeyEpochs, epoch: number): void {
  if (epoch <= current && epoch >= oldest) return;
  throw new RpcError(`Key epoch ${epoch} is not released; the present epoch is ${current}`, {
    code: 'KEY_NOT_FOUND',
  });
}
