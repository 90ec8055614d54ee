import type { Attestation } from '@dstack-cloud/attestation';
import type { P256Key } from '@dstack-cloud/keys';
import { checkCsrConfig } from '../csr/check-csr-config.ts';
import type { CsrConfig } from '../csr/csr.ts';
import { USAGE } from '../oid.ts';
import type { AppInfo } from './app-info.ts';
import { type Issuer, issueCertificate } from './issue-certificate.ts';

/** Ten years, the life of every other certificate (docs/protocol/ra-tls.md section 2.2). */
const TEN_YEARS: number = 3650 * 86_400;

/** Thirty days for a KMS's server certificate, which is renewed daily: an old one is soon worth nothing. */
const RPC_LIFE: number = 30 * 86_400;

interface SelfSigned {
  readonly key: P256Key;
  /** Unix seconds. */
  readonly now: number;
}

/** Root CA of a KMS. */
export function rootCa({ key, now }: SelfSigned): Uint8Array {
  return selfSignedCa(key, 'Dstack KMS CA', 1, now);
}

/**
 * The CA whose key everybody may have: it only satisfies TLS stacks, evidence authenticates (docs/protocol/ra-tls.md
 * section 5.3).
 */
export function tempCa({ key, now }: SelfSigned): Uint8Array {
  return selfSignedCa(key, 'Dstack Client Temp CA', 0, now);
}

function selfSignedCa(key: P256Key, commonName: string, pathLength: number, now: number): Uint8Array {
  const subject = { organization: 'Dstack', commonName };
  return issueCertificate({
    subject,
    spki: key.spki,
    issuer: key,
    ca: { pathLength },
    notAfter: now + TEN_YEARS,
  });
}

/** Root of a workload that has no KMS (docs/protocol/keys.md section 3.2). */
export function localRootCa(input: SelfSigned & { readonly attestation?: Attestation }): Uint8Array {
  const { key, now, attestation } = input;
  return issueCertificate({
    subject: { commonName: 'App Root Cert' },
    spki: key.spki,
    issuer: key,
    ca: { pathLength: 1 },
    notAfter: now + TEN_YEARS,
    ...(attestation && { attestation }),
  });
}

interface Issued {
  readonly issuer: Issuer;
  /** Unix seconds. */
  readonly now: number;
}

/** Server certificate of a KMS; nobody else may get usage `kms:rpc`. */
export function rpcCertificate(
  input: Issued & { readonly domain: string; readonly spki: Uint8Array; readonly attestation?: Attestation },
): Uint8Array {
  const { issuer, now, domain, spki, attestation } = input;
  return issueCertificate({
    subject: { commonName: domain },
    spki,
    issuer,
    notAfter: lifeEnd(issuer, now, RPC_LIFE),
    altNames: [domain],
    usage: USAGE.kmsRpc,
    ...(attestation && { attestation }),
  });
}

/** CA of one application, below the root of the KMS. */
export function appCa(input: Issued & { readonly key: P256Key; readonly appId: Uint8Array }): Uint8Array {
  const { issuer, now, key, appId } = input;
  return issueCertificate({
    subject: { organization: 'Dstack', commonName: 'Dstack App CA' },
    spki: key.spki,
    issuer,
    ca: { pathLength: 0 },
    notAfter: lifeEnd(issuer, now),
    appId,
    usage: USAGE.appCa,
  });
}

export interface AppLeafInput extends Issued {
  readonly config: CsrConfig;
  readonly spki: Uint8Array;
  /** Set by a KMS, left out by a workload that signs for itself. */
  readonly appId?: Uint8Array;
  /** From verified evidence; required when the request asks for it. */
  readonly appInfo?: AppInfo;
  readonly attestation?: Attestation;
  /** Names that no application may have: the KMS's own. */
  readonly forbiddenNames?: readonly string[];
}

/**
 * Certificate that an application asked for. App info and evidence go in when the request wants them.
 * @throws RaTlsError `invalid-field` for what docs/protocol/ra-tls.md section 4.3 refuses
 */
export function appLeaf(input: AppLeafInput): Uint8Array {
  const { config, issuer, now, spki, appId } = input;
  checkCsrConfig(config, {
    now,
    issuerNotAfter: issuer.notAfter,
    forbiddenNames: input.forbiddenNames ?? [],
  });
  const appInfo = wanted('app info', config.extAppInfo, input.appInfo);
  const attestation = wanted('evidence', config.extQuote, input.attestation);
  return issueCertificate({
    subject: {
      ...(config.orgName !== undefined && { organization: config.orgName }),
      commonName: config.subject,
    },
    spki,
    issuer,
    ...(config.notBefore !== undefined && { notBefore: Number(config.notBefore) }),
    notAfter: config.notAfter === undefined ? lifeEnd(issuer, now) : Number(config.notAfter),
    altNames: config.subjectAltNames,
    serverAuth: config.usageServerAuth,
    clientAuth: config.usageClientAuth,
    usage: USAGE.appCustom,
    ...(appId && { appId }),
    ...(appInfo && { appInfo }),
    ...(attestation && { attestation }),
  });
}

/** Client certificate of a workload that asks a KMS for its keys. */
export function tempClient(
  input: Issued & { readonly spki: Uint8Array; readonly attestation: Attestation },
): Uint8Array {
  const { issuer, now, spki, attestation } = input;
  return issueCertificate({
    subject: { commonName: 'RA-TLS TEMP Cert' },
    spki,
    issuer,
    notAfter: now + TEN_YEARS,
    attestation,
  });
}

/** No certificate outlives its issuer's. */
function lifeEnd(issuer: Issuer, now: number, life: number = TEN_YEARS): number {
  return Math.min(now + life, issuer.notAfter);
}

function wanted<T>(what: string, asked: boolean, value: T | undefined): T | undefined {
  if (!asked) return undefined;
  if (value === undefined) throw new TypeError(`The request asks for ${what}, but none was given`);
  return value;
}
