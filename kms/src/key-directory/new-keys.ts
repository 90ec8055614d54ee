import { randomBytes } from 'node:crypto';
import { type Attestation, decodeAttestation, ratlsReportData } from '@dstack-cloud/attestation';
import { utf8 } from '@dstack-cloud/encoding';
import { generateP256Key, KeysError, k256PublicKey, type P256Key, p256KeyPem } from '@dstack-cloud/keys';
import { certificatePem, issuerOf, rootCa, rpcCertificate, tempCa } from '@dstack-cloud/ra-tls';
import { writeBootstrapInfo } from './bootstrap-info.ts';
import type { KeyFileName } from './key-files.ts';
import type { Authority, BootstrapInfo, KmsKeys } from './kms-keys.ts';

/** Obtains evidence over 64 bytes of report data, as a versioned attestation. */
export type Attest = (reportData: Uint8Array) => Promise<Uint8Array>;

/** The keys that replicas of one KMS share. */
export type SharedKeys = { readonly ca: P256Key; readonly tempCa: P256Key; readonly k256: Uint8Array };

/** Fresh root keys from the system's random source. */
export function generateSharedKeys(): SharedKeys {
  return { ca: generateP256Key(), tempCa: generateP256Key(), k256: generateK256() };
}

/** Certificates and an RPC key of its own for shared keys (chapter 10 sections 6.2 and 6.4). */
export function keysFor(
  shared: SharedKeys,
  domain: string,
  now: number,
  bootstrapInfo?: BootstrapInfo,
): KmsKeys {
  return {
    roots: { caScalar: shared.ca.scalar, k256: shared.k256 },
    k256Pubkey: k256PublicKey(shared.k256),
    rootCa: { key: shared.ca, certificate: rootCa({ key: shared.ca, now }) },
    tempCa: { key: shared.tempCa, certificate: tempCa({ key: shared.tempCa, now }) },
    rpcKey: generateP256Key(),
    domain,
    bootstrapInfo,
  };
}

/** The RPC certificate, with evidence bound to its key when `attest` is given. */
export async function issueRpcCertificate(
  { rootCa: root, rpcKey, domain }: Pick<KmsKeys, 'rootCa' | 'rpcKey' | 'domain'>,
  now: number,
  attest: Attest | undefined,
): Promise<Uint8Array> {
  const attestation: Attestation | undefined =
    attest && decodeAttestation(await attest(ratlsReportData(rpcKey.spki)));
  return rpcCertificate({
    issuer: issuerOf(root.certificate, root.key),
    now,
    domain,
    spki: rpcKey.spki,
    ...(attestation && { attestation }),
  });
}

/** The files that hold these keys. */
export function keyFilesOf(keys: KmsKeys, rpcCertificateDer: Uint8Array): Map<KeyFileName, Uint8Array> {
  const files = new Map<KeyFileName, Uint8Array>([
    ['rpc-domain', utf8(keys.domain)],
    ...authorityFiles('root-ca', keys.rootCa),
    ...authorityFiles('tmp-ca', keys.tempCa),
    ['rpc.crt', utf8(certificatePem(rpcCertificateDer))],
    ['rpc.key', utf8(p256KeyPem(keys.rpcKey))],
    ['root-k256.key', keys.roots.k256],
  ]);
  if (keys.bootstrapInfo) files.set('bootstrap-info.json', utf8(writeBootstrapInfo(keys.bootstrapInfo)));
  return files;
}

function authorityFiles(
  name: 'root-ca' | 'tmp-ca',
  { key, certificate }: Authority,
): [KeyFileName, Uint8Array][] {
  return [
    [`${name}.crt`, utf8(certificatePem(certificate))],
    [`${name}.key`, utf8(p256KeyPem(key))],
  ];
}

function generateK256(): Uint8Array {
  for (;;) {
    const secret = new Uint8Array(randomBytes(32));
    try {
      k256PublicKey(secret);
      return secret;
    } catch (error) {
      // A number out of range comes once in 2^128 draws.
      if (!(error instanceof KeysError)) throw error;
    }
  }
}
