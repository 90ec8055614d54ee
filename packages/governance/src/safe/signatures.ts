import {
  type Address,
  concatHex,
  getAddress,
  type Hex,
  hashMessage,
  pad,
  recoverAddress,
  size,
  slice,
} from 'viem';
import { GovernanceError } from '../errors.ts';
import type { SafeState } from './read-safe.ts';

/** A signature with the owner that made it. */
export type Confirmation = { readonly signer: Address; readonly signature: Hex };

/** Whether such a signature holds, a contract decides when it is asked, and may say otherwise later. */
const CONTRACT_HINT =
  'A signer that is a contract calls approveHash of the Safe with the hash of the proposal; that counts as its signature';

/** r, s, v. */
const SIGNATURE_BYTES = 65;

/**
 * Who signed this hash. Safe knows two forms of ECDSA: over the hash itself (v 27, 28), and over the hash as a message of
 * `eth_sign` (v 31, 32).
 * @throws GovernanceError `bad-signature`
 */
export async function recoverSigner(hash: Hex, signature: Hex): Promise<Confirmation> {
  const isHex = /^0x([0-9a-fA-F]{2})*$/.test(signature);
  if (!isHex || size(signature) !== SIGNATURE_BYTES) {
    throw new GovernanceError('bad-signature', 'A signature has 65 bytes', {
      found: isHex ? `${size(signature)} bytes` : 'no hex',
      hint: CONTRACT_HINT,
    });
  }
  const v = Number(slice(signature, 64, 65));
  if (v === 0) {
    throw new GovernanceError(
      'bad-signature',
      'This is the signature of a contract (EIP-1271), which is not taken',
      {
        ...{ expected: 'the signature of an account, or an approval on chain', found: 'v = 0' },
        hint: CONTRACT_HINT,
      },
    );
  }
  if (![27, 28, 31, 32].includes(v)) {
    throw new GovernanceError('bad-signature', 'The last byte of a signature is 27, 28, 31 or 32', {
      found: String(v),
    });
  }
  const isMessage = v > 30;
  const plain = concatHex([
    slice(signature, 0, 64),
    isMessage ? `0x${(v - 4).toString(16)}` : slice(signature, 64, 65),
  ]);
  try {
    const signed = isMessage ? hashMessage({ raw: hash }) : hash;
    return { signer: await recoverAddress({ hash: signed, signature: plain }), signature };
  } catch {
    throw new GovernanceError('bad-signature', 'The signature is of no key at all');
  }
}

/** Signatures of this hash by owners of the Safe, one for each owner. @throws GovernanceError `bad-signature` */
export async function ownersWhoSigned(
  safe: Pick<SafeState, 'address' | 'owners'>,
  hash: Hex,
  signatures: readonly Hex[],
): Promise<Confirmation[]> {
  const found = new Map<string, Confirmation>();
  for (const signature of signatures) {
    const { signer } = await recoverSigner(hash, signature);
    if (!safe.owners.some((owner) => owner.toLowerCase() === signer.toLowerCase())) {
      throw new GovernanceError(
        'bad-signature',
        `A signature of ${hash} is by nobody who signs for ${safe.address}`,
        {
          expected: `one of ${safe.owners.join(', ')}`,
          found: signer,
          hint: 'It may be of another chain, another nonce or another transaction: take it out',
        },
      );
    }
    // The same owner twice is one owner.
    found.set(signer.toLowerCase(), { signer: getAddress(signer), signature });
  }
  return [...found.values()];
}

/** Owners that signed this hash; signatures of others, such as a signer who was replaced, count for nothing. */
export async function ownersAmong(
  { owners }: Pick<SafeState, 'owners'>,
  hash: Hex,
  signatures: readonly Hex[],
): Promise<Address[]> {
  const signers = new Set<string>();
  for (const signature of signatures) {
    const found = await recoverSigner(hash, signature).catch(() => undefined);
    if (found !== undefined) signers.add(found.signer.toLowerCase());
  }
  return owners.filter((owner) => signers.has(owner.toLowerCase()));
}

/**
 * What `execTransaction` takes: as many signatures as the Safe demands, in ascending order of the owners' addresses.
 * @param approvers owners that approved the hash on chain, by `approveHash`
 * @throws GovernanceError `not-ready` when there are too few, `bad-signature`
 */
export async function packSignatures(
  safe: Pick<SafeState, 'address' | 'owners' | 'threshold'>,
  hash: Hex,
  signatures: readonly Hex[],
  approvers: readonly Address[] = [],
): Promise<Hex> {
  const parts = new Map<string, Hex>();
  for (const owner of approvers) {
    // v 1: r is the owner, and the Safe looks up its approval.
    parts.set(
      owner.toLowerCase(),
      concatHex([pad(owner.toLowerCase() as Address, { size: 32 }), pad('0x', { size: 32 }), '0x01']),
    );
  }
  for (const { signer, signature } of await ownersWhoSigned(safe, hash, signatures)) {
    parts.set(signer.toLowerCase(), signature);
  }
  if (parts.size < safe.threshold) {
    const missing = safe.owners.filter((owner) => !parts.has(owner.toLowerCase()));
    throw new GovernanceError('not-ready', `${parts.size} of ${safe.threshold} signatures are there`, {
      hint: `Have it approved by ${missing.join(' or ')}`,
    });
  }
  const sorted = [...parts].sort(([a], [b]) => (BigInt(a) < BigInt(b) ? -1 : 1));
  return concatHex(sorted.slice(0, safe.threshold).map(([, part]) => part));
}
