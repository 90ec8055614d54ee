import { createHash } from 'node:crypto';
import { equalConstantTime, fromHex, utf8 } from '@dstack-cloud/encoding';
import type { KmsConfig } from '../config/kms-config.ts';

/** Whether the v0.6 token in a body is that of `core.admin_token_hash`. */
export function hasAdminTokenHash({ core }: KmsConfig, token: string): boolean {
  const expected = core.admin_token_hash;
  const found = createHash('sha256').update(utf8(token)).digest();
  return expected !== '' && equalConstantTime(found, fromHex(expected, { prefix: 'allow' }));
}
