import { ed25519PublicKey, k256PublicKey, verifySignatureChain as verifyChain } from '@dstack-cloud/keys';
import { DstackError } from './errors.ts';
import { identityBytes } from './verify-evidence.ts';

/** A key, and who must vouch for it. */
export interface SignatureChainClaim {
  /** The secret of `getKey`; or `publicKey`. */
  readonly key?: Uint8Array;
  readonly algorithm?: 'secp256k1' | 'ed25519';
  readonly publicKey?: Uint8Array;
  /** `signature_chain` of `getKey`. */
  readonly chain: readonly Uint8Array[];
  readonly appId: string | Uint8Array;
  readonly purpose: string;
  /** Of the key service that is trusted, compressed: `kmsInfo().k256Pubkey` of the contract DstackKms. */
  readonly kmsRootPublicKey: string | Uint8Array;
}

/**
 * Checks that the key service vouches for a key of an application.
 *
 * @returns public key of the application's root key, compressed
 * @throws DstackError `untrusted`, `argument`
 */
export function verifySignatureChain(claim: SignatureChainClaim): Uint8Array {
  const { key, publicKey, algorithm = 'secp256k1' } = claim;
  if ((key === undefined) === (publicKey === undefined))
    throw new DstackError('argument', 'Either key or publicKey says which key is meant');
  try {
    return verifyChain({
      publicKey: publicKey ?? (algorithm === 'ed25519' ? ed25519PublicKey(key!) : k256PublicKey(key!)),
      purpose: claim.purpose,
      signatureChain: claim.chain,
      appId: identityBytes('appId', claim.appId),
      kmsPublicKey: identityBytes('kmsRootPublicKey', claim.kmsRootPublicKey),
    });
  } catch (cause) {
    if (cause instanceof DstackError) throw cause;
    throw new DstackError('untrusted', `The key is not vouched for: ${(cause as Error).message}`, { cause });
  }
}
