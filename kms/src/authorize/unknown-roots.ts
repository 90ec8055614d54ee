import type { KmsConfig } from '../config/kms-config.ts';
import type { KmsKeys } from '../key-directory/kms-keys.ts';

/**
 * Roots that the configuration names and this KMS does not have: an application held at one gets nothing, and one that
 * shall move from it gets no older keys.
 */
export function unknownRoots({ core }: KmsConfig, keys: KmsKeys): { app: string; root: string }[] {
  const known = new Set([keys.id, ...keys.history.map(({ id }) => id)]);
  return Object.entries(core.key_roots).flatMap(([app, { root, previous }]) =>
    [...(root === undefined ? [] : [root]), ...previous]
      .filter((id) => !known.has(id))
      .map((id) => ({ app, root: id })),
  );
}
