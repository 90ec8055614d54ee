import { toHex } from '@dstack-cloud/encoding';
import { p256KeyPem } from '@dstack-cloud/keys';
import type { MessageInitShape } from '@dstack-cloud/prpc';
import { type kms as proto, RpcError } from '@dstack-cloud/prpc';
import { authorize, publicFields } from '../authorize/authorize.ts';
import type { Caller, Kms } from '../kms.ts';
import { simulatedField } from './get-app-key.ts';

/** Hands the root keys to another KMS. Evidence is always required (docs/protocol/kms.md section 5.5). */
export async function getKmsKey(
  kms: Kms,
  { vmConfig, acceptHistory }: proto.GetKmsKeyRequest,
  { attestation, address }: Caller,
): Promise<MessageInitShape<typeof proto.KmsKeyResponseSchema>> {
  if (attestation === undefined) throw new RpcError('No attestation provided', { code: 'UNAUTHORIZED' });
  // Receivers that know of no history refuse more than one.
  const released = [kms.keys, ...(acceptHistory === true ? kms.keys.history : [])];
  const { info } = await authorize(kms, attestation, {
    event: 'kms-key',
    kind: 'kms',
    address,
    bootTime: false,
    vmConfig,
    accept: ({ mrAggregated }) => {
      assertNotDev(kms, mrAggregated);
      return { root_keys: released.map(({ id }) => id) };
    },
  });
  kms.metrics.keyDispatch.inc({ result: 'released' });
  kms.log.warn(
    { ...publicFields(info), ...simulatedField(info.simulated) },
    'root keys handed to another KMS',
  );
  return {
    tempCaKey: p256KeyPem(kms.keys.tempCa.key),
    keys: released.map(({ rootCa, roots }) => ({
      caKey: p256KeyPem(rootCa.key),
      k256Key: roots.k256,
    })),
  };
}

/** The dev policy allows everybody, which for root keys is too much: they need their own list. */
function assertNotDev({ config }: Kms, mrAggregated: Uint8Array): void {
  if (config.policy !== 'dev') return;
  const found = toHex(mrAggregated);
  const allowed = config.core.dev_kms_allowed_mr_aggregated.map((mr) => mr.replace(/^0x/, '').toLowerCase());
  if (!allowed.includes(found)) {
    throw new RpcError('KMS keys are not released under the dev policy to a KMS that is not listed', {
      code: 'MEASUREMENT_NOT_FOUND',
    });
  }
}
