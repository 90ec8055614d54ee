import { toHex } from '@dstack-cloud/encoding';
import { deriveEnvPublicKey, signEnvPublicKey, signNamedEnvPublicKey } from '@dstack-cloud/keys';
import type { MessageInitShape } from '@dstack-cloud/prpc';
import { type kms as proto, RpcError } from '@dstack-cloud/prpc';
import { keyAssignment, rootIdField } from '../authorize/key-assignment.ts';
import { assertServed } from '../authorize/key-epochs.ts';
import { requireSelf } from '../authorize/require-self.ts';
import type { Kms } from '../kms.ts';

/**
 * The key to which an application's environment is sealed; anybody may ask (docs/protocol/kms.md section 5.7). Without
 * an epoch it is the one that the application's machines get; others are served only while the policy still releases
 * them. It is signed by the active root, whatever root it comes from: that one speaks for the KMS.
 */
export async function getAppEnvEncryptPubKey(
  kms: Kms,
  { appId, keyEpoch, rootId, withName }: proto.AppId,
): Promise<MessageInitShape<typeof proto.PublicKeyResponseSchema>> {
  if (appId.length !== 20) throw new RpcError('app_id must be 20 bytes', { code: 'INVALID_ARGUMENT' });
  await requireSelf(kms, 'env-pubkey');
  const assignment = keyAssignment(kms, appId, kms.currentKeys.of(appId));
  const root =
    rootId === undefined
      ? assignment.root
      : [assignment.root, ...assignment.previousRoots].find(({ id }) => id === toHex(rootId));
  if (root === undefined) {
    throw new RpcError('Keys of this root are not released to the application', { code: 'KEY_NOT_FOUND' });
  }
  const { current } = assignment.epochs;
  const epoch = keyEpoch ?? current;
  assertServed(assignment.epochs, epoch);
  const isPresent = root === assignment.root && epoch === current;
  const publicKey = deriveEnvPublicKey(root.roots, appId, epoch);
  const timestamp = BigInt(Math.floor(kms.now()));
  const { k256 } = kms.keys.roots;
  // Clients that know of no epochs take whatever has these signatures for the key to seal to.
  const isPlain = isPresent && epoch === 0;
  const isNamed = withName === true || !isPlain;
  const name = { epoch, rootId: new Uint8Array(Buffer.from(root.id, 'hex')), isPresent };
  return {
    publicKey,
    timestamp,
    ...(isPlain && {
      signature: signEnvPublicKey(k256, appId, publicKey),
      signatureV1: signEnvPublicKey(k256, appId, publicKey, timestamp),
    }),
    ...(isNamed && {
      rootId: name.rootId,
      isPresent,
      signatureV2: signNamedEnvPublicKey(k256, { appId, publicKey, timestamp }, name),
    }),
    ...((isNamed || keyEpoch !== undefined) && { keyEpoch: epoch }),
    ...rootIdField(kms.keys, root, rootId),
  };
}
