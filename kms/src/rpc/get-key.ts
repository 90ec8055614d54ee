import { deriveAppKeys, getKey as deriveKey } from '@dstack-cloud/keys';
import type { MessageInitShape } from '@dstack-cloud/prpc';
import { type kms as proto, RpcError } from '@dstack-cloud/prpc';
import { authorize, publicFields } from '../authorize/authorize.ts';
import type { Caller, Kms } from '../kms.ts';
import { simulatedField } from './get-app-key.ts';

const MAX_NAME_LENGTH = 1024;

/**
 * The documented `getKey(name)`: what the guest agent would derive from the same keys (docs/protocol/keys.md section
 * 3.3).
 */
export async function getKey(
  kms: Kms,
  { name, vmConfig }: proto.GetKeyRequest,
  { attestation, address }: Caller,
): Promise<MessageInitShape<typeof proto.GetKeyResponseSchema>> {
  if (name.length > MAX_NAME_LENGTH) {
    throw new RpcError(`name must be at most ${MAX_NAME_LENGTH} characters`, { code: 'INVALID_ARGUMENT' });
  }
  if (attestation === undefined) {
    throw new RpcError('App not allowed: No attestation provided', { code: 'UNAUTHORIZED' });
  }
  const { info, assignment } = await authorize(kms, attestation, {
    event: 'get-key',
    kind: 'app',
    context: 'App not allowed',
    address,
    bootTime: false,
    vmConfig,
    accept: () => ({ key_name: name }),
  });
  const { k256Key, k256Signature } = deriveAppKeys(
    assignment.root.roots,
    info.appId,
    info.instanceId,
    assignment.epochs.current,
  );
  const { key, signature } = deriveKey(k256Key, name, '', 'secp256k1');
  kms.metrics.keyDispatch.inc({ result: 'released' });
  kms.log.info({ ...publicFields(info), ...simulatedField(info.simulated) }, 'key dispatched');
  return { key, signatureChain: [signature, k256Signature] };
}
