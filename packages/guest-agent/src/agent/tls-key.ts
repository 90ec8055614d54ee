import { deriveP256Key, generateP256Key, type P256Key, p256KeyPem } from '@dstack-cloud/keys';
import { RpcError } from '@dstack-cloud/prpc';
import { RaTlsError } from '@dstack-cloud/ra-tls';
import { errorChain } from '@dstack-cloud/runtime';
import type { Agent } from './agent.ts';
import type { LeafRequest } from './certificate-signer.ts';
import { attestKeys } from './demo-certificate.ts';

/** First second that X.509 cannot express; the original aborts on it (docs/protocol/guest-agent.md section 4.2). */
const YEAR_10000 = 253_402_300_800n;

/** A private key with the certificate chain for it, PEM. */
export interface CertifiedKey {
  readonly key: string;
  readonly certificateChain: string[];
}

/** GetTlsKey: a fresh P-256 key and its certificate. @throws RpcError */
export function freshTlsKey(agent: Agent, request: LeafRequest): Promise<CertifiedKey> {
  return certified(agent, generateP256Key(), request);
}

/** Tappd.DeriveKey: the key of a path, or a random one. @throws RpcError */
export function derivedTlsKey(
  agent: Agent,
  path: string,
  randomSeed: boolean,
  request: LeafRequest,
): Promise<CertifiedKey> {
  const key = randomSeed ? generateP256Key() : deriveP256Key(agent.keys.k256Key, [path]);
  return certified(agent, key, request);
}

async function certified(agent: Agent, key: P256Key, request: LeafRequest): Promise<CertifiedKey> {
  const { notBefore, notAfter } = request;
  for (const time of [notBefore, notAfter]) {
    if (time !== undefined && time >= YEAR_10000)
      invalid('A certificate cannot carry a time after the year 9999');
  }
  if (notBefore !== undefined && notAfter !== undefined && notBefore >= notAfter) {
    invalid('not_before must be earlier than not_after');
  }
  try {
    const attest = (nonce?: Uint8Array) => attestKeys(agent.device)(key.spki, nonce);
    const certificateChain = await agent.signer.sign({ key, request, attest });
    return { key: p256KeyPem(key), certificateChain: [...certificateChain] };
  } catch (cause) {
    if (cause instanceof RaTlsError && cause.code === 'invalid-field')
      invalid(`Failed to sign the CSR: ${cause.message}`);
    throw new RpcError(`Failed to sign the CSR: ${errorChain(cause)}`, { code: 'UNAVAILABLE', cause });
  }
}

function invalid(text: string): never {
  throw new RpcError(text, { code: 'INVALID_ARGUMENT' });
}
