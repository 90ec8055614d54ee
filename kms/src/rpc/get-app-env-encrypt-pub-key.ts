import { deriveEnvPublicKey, signEnvPublicKey } from '@dstack-cloud/keys';
import type { MessageInitShape } from '@dstack-cloud/prpc';
import { type kms as proto, RpcError } from '@dstack-cloud/prpc';
import type { Kms } from '../kms.ts';

/** The key to which an application's environment is sealed; anybody may ask (chapter 10 section 5.7). */
export async function getAppEnvEncryptPubKey(
  kms: Kms,
  { appId, keyEpoch }: proto.AppId,
): Promise<MessageInitShape<typeof proto.PublicKeyResponseSchema>> {
  if (appId.length !== 20) throw new RpcError('app_id must be 20 bytes', { code: 'INVALID_ARGUMENT' });
  await kms.self.assertAllowed();
  const { roots } = kms.keys;
  const publicKey = deriveEnvPublicKey(roots, appId, keyEpoch ?? 0);
  const timestamp = BigInt(Math.floor(kms.now()));
  return {
    publicKey,
    signature: signEnvPublicKey(roots.k256, appId, publicKey),
    timestamp,
    signatureV1: signEnvPublicKey(roots.k256, appId, publicKey, timestamp),
  };
}
