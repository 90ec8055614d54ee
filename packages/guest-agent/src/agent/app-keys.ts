import { getKey, KeysError, signData, verifyData } from '@dstack-cloud/keys';
import { RpcError } from '@dstack-cloud/prpc';
import type { Agent } from './agent.ts';

/** Path and purpose of the key that Sign uses (docs/protocol/keys.md section 5.4). */
const SIGN_PATH = 'vms';
const SIGN_PURPOSE = 'signing';

/** A derived key and the chain that leads from it to the KMS. */
export interface ChainedKey {
  readonly key: Uint8Array;
  readonly publicKey: Uint8Array;
  /** By the app root key, then by the KMS (empty when the keys did not come from one). */
  readonly signatureChain: readonly Uint8Array[];
}

/** GetKey (docs/protocol/keys.md section 3.3). @throws RpcError `Unsupported algorithm` */
export function chainedKey(agent: Agent, path: string, purpose: string, algorithm: string): ChainedKey {
  return withKeyErrors(() => {
    const { key, publicKey, signature } = getKey(agent.keys.k256Key, path, purpose, algorithm);
    return { key, publicKey, signatureChain: [signature, agent.keys.k256Signature] };
  });
}

/** Sign: secp256k1 and its prehashed form share one key. @throws RpcError */
export function signWithAppKey(
  agent: Agent,
  algorithm: string,
  data: Uint8Array,
): { signature: Uint8Array; signatureChain: Uint8Array[]; publicKey: Uint8Array } {
  return withKeyErrors(() => {
    const { key, publicKey, signatureChain } = signingKey(agent, algorithm);
    const signature = signData(algorithm, key, data);
    return { signature, signatureChain: [signature, ...signatureChain], publicKey };
  });
}

/** The keys of Sign by agent and algorithm: path and purpose are fixed, so each is derived and signed for once. */
const signingKeys = new WeakMap<Agent, Map<string, ChainedKey>>();

/** The key of Sign; here, unlike in GetKey, no algorithm is no algorithm. @throws RpcError */
export function signingKey(agent: Agent, algorithm: string): ChainedKey {
  if (algorithm === '') throw new RpcError('Unsupported algorithm', { code: 'INVALID_ARGUMENT' });
  const kept = signingKeys.get(agent) ?? new Map<string, ChainedKey>();
  signingKeys.set(agent, kept);
  const known = kept.get(algorithm);
  if (known !== undefined) return known;
  const derived = algorithm === 'secp256k1_prehashed' ? 'secp256k1' : algorithm;
  // Unknown algorithms throw here, so only the four known names are kept.
  const made = chainedKey(agent, SIGN_PATH, SIGN_PURPOSE, derived);
  kept.set(algorithm, made);
  return made;
}

/** Verify. @throws RpcError for malformed keys and signatures */
export function verifyWithKey(
  algorithm: string,
  data: Uint8Array,
  signature: Uint8Array,
  publicKey: Uint8Array,
): boolean {
  return withKeyErrors(() => verifyData(algorithm, data, signature, publicKey));
}

function withKeyErrors<T>(run: () => T): T {
  try {
    return run();
  } catch (cause) {
    if (!(cause instanceof KeysError)) throw cause;
    throw new RpcError(cause.message, { code: 'INVALID_ARGUMENT', cause });
  }
}
