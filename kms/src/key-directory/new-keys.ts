import { randomBytes } from 'node:crypto';
import { type Attestation, decodeAttestation, ratlsReportData } from '@dstack-cloud/attestation';
import { toHex, utf8 } from '@dstack-cloud/encoding';
import {
  generateP256Key,
  KeysError,
  k256PublicKey,
  type P256Key,
  p256KeyPem,
  rootId,
} from '@dstack-cloud/keys';
import { certificatePem, issuerOf, rootCa, rpcCertificate, tempCa } from '@dstack-cloud/ra-tls';
import { writeBootstrapInfo } from './bootstrap-info.ts';
import type { HistoryFiles, KeyFileName, RetiredFileName } from './key-files.ts';
import type { Authority, BootstrapInfo, KmsKeys, RetiredRoot, Root } from './kms-keys.ts';
import { writeRetired } from './load-history.ts';

/** Obtains evidence over 64 bytes of report data, as a versioned attestation. */
export type Attest = (reportData: Uint8Array) => Promise<Uint8Array>;

/** The secrets of one root. */
export type RootSecrets = { readonly ca: P256Key; readonly k256: Uint8Array };

/** The keys that replicas of one KMS share. */
export type SharedKeys = RootSecrets & {
  readonly tempCa: P256Key;
  /** Retired roots, the newest first. */
  readonly history?: readonly RootSecrets[];
};

/** A fresh root from the system's random source. */
export function generateRoot(): RootSecrets {
  return { ca: generateP256Key(), k256: generateK256() };
}

/** Fresh keys for a new KMS. */
export function generateSharedKeys(): SharedKeys {
  return { ...generateRoot(), tempCa: generateP256Key() };
}

/** What goes with the secrets of a root. */
export function rootFor({ ca, k256 }: RootSecrets, now: number, bootstrapInfo?: BootstrapInfo): Root {
  const k256Pubkey = k256PublicKey(k256);
  return {
    id: toHex(rootId(k256Pubkey)),
    roots: { caScalar: ca.scalar, k256 },
    k256Pubkey,
    rootCa: { key: ca, certificate: rootCa({ key: ca, now }) },
    bootstrapInfo,
  };
}

/** Certificates and an RPC key of its own for shared keys (docs/protocol/kms.md sections 6.2 and 6.3). */
export function keysFor(
  shared: SharedKeys,
  domain: string,
  now: number,
  bootstrapInfo?: BootstrapInfo,
): KmsKeys {
  const root = rootFor(shared, now, bootstrapInfo);
  let successor = root.id;
  const history = (shared.history ?? []).map((secrets) => {
    const retired = { ...rootFor(secrets, now), successor };
    successor = retired.id;
    return retired;
  });
  return {
    ...root,
    history,
    tempCa: { key: shared.tempCa, certificate: tempCa({ key: shared.tempCa, now }) },
    rpcKey: generateP256Key(),
    domain,
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

/** The files of a retired root. */
export function retiredFilesOf(
  root: RetiredRoot,
  retiredAt?: number,
): ReadonlyMap<RetiredFileName, Uint8Array> {
  const files = new Map<RetiredFileName, Uint8Array>([
    ...authorityFiles('root-ca', root.rootCa),
    ['retired.json', utf8(writeRetired(root.successor, retiredAt))],
    ['root-k256.key', root.roots.k256],
  ]);
  if (root.bootstrapInfo) files.set('bootstrap-info.json', utf8(writeBootstrapInfo(root.bootstrapInfo)));
  return files;
}

/** The files of all retired roots. */
export function historyFilesOf({ history }: Pick<KmsKeys, 'history'>): HistoryFiles {
  return new Map(history.map((root) => [root.id, retiredFilesOf(root)]));
}

function authorityFiles<Name extends 'root-ca' | 'tmp-ca'>(
  name: Name,
  { key, certificate }: Authority,
): [`${Name}.crt` | `${Name}.key`, Uint8Array][] {
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
