import { utf8 } from '@dstack-cloud/encoding';
import type { TrustRoot } from './trust-roots.ts';

/** Everything about some anchors that a result depends on, as parts of a cache key. */
export function anchorParts(anchors: readonly TrustRoot[]): Uint8Array[] {
  return anchors.flatMap(({ der, name, simulated }) => [der, utf8(name), Uint8Array.of(simulated ? 1 : 0)]);
}
