import { type AppKeys, deriveAppKeys } from '@dstack-cloud/keys';
import type { MessageInitShape } from '@dstack-cloud/prpc';
import { type kms as proto, RpcError } from '@dstack-cloud/prpc';
import { certificatePem } from '@dstack-cloud/ra-tls';
import { authorize, publicFields } from '../authorize/authorize.ts';
import { type KeyVersion, olderKeys, rootIdField } from '../authorize/key-assignment.ts';
import type { Caller, Kms } from '../kms.ts';

/** Releases an application's keys to attested evidence of it (docs/protocol/kms.md section 5.4). */
export async function getAppKey(
  kms: Kms,
  request: proto.GetAppKeyRequest,
  { attestation, address }: Caller,
): Promise<MessageInitShape<typeof proto.AppKeyResponseSchema>> {
  if (request.apiVersion > 1) {
    throw new RpcError(`Unsupported API version: ${request.apiVersion}`, { code: 'INVALID_ARGUMENT' });
  }
  if (attestation === undefined) {
    throw new RpcError('App not allowed: No attestation provided', { code: 'UNAUTHORIZED' });
  }
  let previousVersions: KeyVersion[] = [];
  const callerKey = { epoch: request.keyEpoch, rootId: request.rootId };
  const { info, gatewayAppId, assignment } = await authorize(kms, attestation, {
    event: 'app-key',
    kind: 'app',
    context: 'App not allowed',
    address,
    bootTime: false,
    vmConfig: request.vmConfig,
    accept: (_, known) => {
      previousVersions = olderKeys(kms.keys, known, callerKey);
      return previousVersions.length === 0
        ? {}
        : { previous_keys: previousVersions.map(({ root, epoch }) => `${root.id}:${epoch}`) };
    },
  });
  const { current } = assignment.epochs;
  const keysOf = ({ root, epoch }: KeyVersion): AppKeys =>
    deriveAppKeys(root.roots, info.appId, info.instanceId, epoch);
  const keys = keysOf({ root: assignment.root, epoch: current });
  kms.metrics.keyDispatch.inc({ result: 'released' });
  kms.log.info({ ...publicFields(info), ...simulatedField(info.simulated) }, 'key dispatched');
  return {
    // What connections to this KMS chain to: the active root, also for an application held at another.
    caCert: certificatePem(kms.keys.rootCa.certificate),
    diskCryptKey: keys.diskCryptKey,
    envCryptKey: keys.envCryptKey,
    k256Key: keys.k256Key,
    k256Signature: keys.k256Signature,
    tproxyAppId: gatewayAppId,
    gatewayAppId,
    osImageHash: info.osImageHash,
    ...(request.keyEpoch === undefined && current === 0 ? {} : { keyEpoch: current }),
    previousKeys: previousVersions.map((version) => ({
      keyEpoch: version.epoch,
      ...keysOf(version),
      ...rootIdField(kms.keys, version.root, request.rootId),
    })),
    ...rootIdField(kms.keys, assignment.root, request.rootId),
  };
}

/** Marks log lines about evidence that no vendor stands behind. */
export function simulatedField(simulated: boolean): { simulated?: true } {
  return simulated ? { simulated: true } : {};
}
