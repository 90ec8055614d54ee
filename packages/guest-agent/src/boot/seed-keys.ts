import { randomBytes } from 'node:crypto';
import type { AppKeysFile } from '@dstack-cloud/app';
import { ratlsReportData } from '@dstack-cloud/attestation';
import type { EvidenceDevice } from '@dstack-cloud/attestation/obtain';
import { appKeysFromSeed, p256KeyPem } from '@dstack-cloud/keys';
import { certificatePem, localRootCa } from '@dstack-cloud/ra-tls';

/**
 * Keys without a provider: a random seed, so nothing that they protect survives the next boot (chapter 30 section 4.4).
 *
 * @param now unix seconds
 */
export async function keysWithoutProvider(
  device: EvidenceDevice,
  now: number,
  seed: Uint8Array = new Uint8Array(randomBytes(32)),
): Promise<AppKeysFile> {
  const { appKey, diskCryptKey, envCryptKey, k256Key, k256Signature } = appKeysFromSeed(seed);
  seed.fill(0);
  const attestation = await device.attest(ratlsReportData(appKey.spki));
  return {
    diskCryptKey,
    envCryptKey,
    k256Key,
    k256Signature,
    gatewayAppId: '',
    caCert: certificatePem(localRootCa({ key: appKey, now, attestation })),
    keyProvider: { kind: 'none', key: p256KeyPem(appKey) },
  };
}
