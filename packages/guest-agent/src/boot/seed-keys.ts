import { randomBytes } from 'node:crypto';
import type { AppKeysFile, AppKeysProvider } from '@dstack-cloud/app';
import { ratlsReportData } from '@dstack-cloud/attestation';
import type { EvidenceDevice } from '@dstack-cloud/attestation/attester';
import { appKeysFromSeed, p256KeyPem } from '@dstack-cloud/keys';
import { certificatePem, localRootCa } from '@dstack-cloud/ra-tls';

/** What the keys of a seed say of where they came from: the app key as PEM, and its SPKI DER. */
type ProviderOf = (key: string, spki: Uint8Array) => AppKeysProvider;

/**
 * All keys of an application from one seed of 32 bytes, which is overwritten; the app key is the root of its
 * certificates.
 *
 * @param now unix seconds
 */
export async function keysFromSeed(
  device: EvidenceDevice,
  now: number,
  seed: Uint8Array,
  providerOf: ProviderOf,
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
    keyProvider: providerOf(p256KeyPem(appKey), appKey.spki),
  };
}

/** Keys without a provider: a random seed, so nothing that they protect survives the next boot. */
export async function keysWithoutProvider(
  device: EvidenceDevice,
  now: number,
  seed: Uint8Array = new Uint8Array(randomBytes(32)),
): Promise<AppKeysFile> {
  return await keysFromSeed(device, now, seed, (key) => ({ kind: 'none', key }));
}
