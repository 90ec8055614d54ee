import { p256KeyPem } from '@dstack-cloud/keys';
import type { MessageInitShape } from '@dstack-cloud/prpc';
import { type kms as proto, RpcError } from '@dstack-cloud/prpc';
import { certificatePem } from '@dstack-cloud/ra-tls';
import { requireSelf } from '../authorize/require-self.ts';
import type { Kms } from '../kms.ts';

/** The CA whose key everybody may have, for clients whose TLS stack wants one (docs/protocol/kms.md section 5.8). */
export async function getTempCaCert(
  kms: Kms,
): Promise<MessageInitShape<typeof proto.GetTempCaCertResponseSchema>> {
  if (!kms.config.core.temp_ca.enabled) {
    throw new RpcError('The temp CA is disabled; use a self-signed certificate with attestation', {
      code: 'UNIMPLEMENTED',
    });
  }
  await requireSelf(kms, 'temp-ca');
  const { tempCa, rootCa } = kms.keys;
  return {
    tempCaCert: certificatePem(tempCa.certificate),
    tempCaKey: p256KeyPem(tempCa.key),
    caCert: certificatePem(rootCa.certificate),
  };
}
