/** The same question to both readers. */

import type { BootInfo } from '@dstack-cloud/attestation';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import type { Hex } from 'viem';
import { expect } from 'vitest';
import type { BootKind, Decision } from '../../../policy.ts';
import type { ChainPolicy } from '../../chain-policy.ts';

/** Two policies over one KMS contract: one asks the EVM of the node, the other decides by proven storage. */
export type Pair = { readonly calls: ChainPolicy; readonly proofs: ChainPolicy };

/** Both must say the same; the decision is returned. */
export async function decide({ calls, proofs }: Pair, kind: BootKind, info: BootInfo): Promise<Decision> {
  const [called, proven] = [await calls.authorize(kind, info), await proofs.authorize(kind, info)];
  expect(proven).toEqual(called);
  return proven;
}

/** Matches a permission. */
export const allowed: unknown = expect.objectContaining({ allowed: true, reason: '' });
/** Matches a denial. */
export const denied = (reason: string): unknown => expect.objectContaining({ allowed: false, reason });

export const hex = (bytes: Uint8Array): Hex => `0x${toHex(bytes)}`;
export const bytesOf = (text: string): Uint8Array => fromHex(text, { prefix: 'allow' });
