import {
  addRoot,
  type CollateralSource,
  rootCertificate,
  type TrustRoots,
  vendorCollateral,
  vendorRoots,
} from '@dstack-cloud/attestation';
import { fromHex } from '@dstack-cloud/encoding';
import { parseRaTlsCertificate } from '@dstack-cloud/ra-tls';
import { type Report, verdictOf, verdictText, verify } from '@dstack-cloud/verifier';
import { DstackError } from './errors.ts';
import type { Data } from './types.ts';

/** What a peer must be. */
export interface Trust {
  /**
   * Values that verified evidence must have, hex: `app_id`, `compose_hash`, `instance_id`, `device_id`, `os_image_hash`,
   * `mr_system`, `mr_aggregated`, and registers such as `mrtd`.
   */
  readonly expect: Readonly<Record<string, string>>;
  /** The operating system decides what it measures: without a value of its own, the others mean little. */
  readonly anyOsImage?: boolean;
  /** PEM of a simulated TDX root, for development. Evidence under it proves nothing. */
  readonly simulatedRoot?: string;
  /** PCCS to get collateral from; default Intel's service. */
  readonly collateralUrl?: string;
}

/** Values that name the operating system. */
const OS_VALUES: readonly string[] = [
  'os_image_hash',
  'mr_system',
  'mr_aggregated',
  'mrtd',
  'measurement',
  'pcr0',
];

/**
 * Verifies evidence of a peer: signatures up to the vendor's root, event log, OS image, and that it is what was expected.
 *
 * @param evidence of `getAttestation`, or any other form that `dstack-verifier` reads
 * @param reportData what the peer was asked to put in: a nonce of yours, or the hash of its message
 * @throws DstackError `untrusted` with the first failed check, `argument` when too little is expected
 */
export async function verifyEvidence(evidence: Uint8Array, reportData: Data, trust: Trust): Promise<Report> {
  const bytes = typeof reportData === 'string' ? new TextEncoder().encode(reportData) : reportData;
  return await judge(evidence, trust, bytes);
}

/**
 * Verifies the evidence in a certificate that a peer showed in a TLS handshake, and so proved to have the key of.
 *
 * @param der of the certificate
 * @throws DstackError as `verifyEvidence`
 */
export async function verifyCertificate(der: Uint8Array, trust: Trust): Promise<Report> {
  return await judge(der, trust, undefined);
}

async function judge(
  evidence: Uint8Array,
  trust: Trust,
  reportData: Uint8Array | undefined,
): Promise<Report> {
  requireEnough(trust);
  const { roots, collateral } = servicesOf(trust);
  const now = Math.floor(Date.now() / 1000);
  const report = await asked(() =>
    verify(evidence, {
      roots,
      collateral,
      now,
      readRaTls: parseRaTlsCertificate,
      policy: { expect: { ...trust.expect } },
      ...(reportData === undefined ? {} : { reportData }),
    }),
  );
  // Whatever else it is, no handshake proved that the peer has its key.
  if (reportData === undefined && report.form !== 'ra-tls-certificate')
    throw new DstackError(
      'untrusted',
      `This is no certificate with evidence: ${report.reason ?? report.form}`,
    );
  if (verdictOf(report) === 'accepted') return report;
  const failed = report.checks.find(({ ok }) => !ok);
  const different = report.comparisons.find(({ ok }) => !ok);
  const why = report.reason ?? failed?.id ?? (different && `${different.name} is another`);
  throw new DstackError('untrusted', `The evidence is ${verdictText(report)}${why ? `: ${why}` : ''}`);
}

/** Questions that the verifier does not understand are mistakes of the caller. */
async function asked<T>(question: () => Promise<T>): Promise<T> {
  try {
    return await question();
  } catch (cause) {
    throw new DstackError('argument', (cause as Error).message, { cause });
  }
}

/** Refuses a trust that any application could have. @throws DstackError `argument` */
export function requireEnough({ expect, anyOsImage }: Trust): void {
  const names = Object.keys(expect);
  if (names.length === 0)
    throw new DstackError('argument', 'Nothing is expected of the evidence: it may be any application');
  if (anyOsImage === true || names.some((name) => OS_VALUES.includes(name))) return;
  const message = `None of ${OS_VALUES.join(', ')} is expected: an OS image of anybody could claim ${names.join(', ')}`;
  throw new DstackError('argument', `${message}; expect one, or say anyOsImage`);
}

/** Roots and collateral that a trust names. */
export function servicesOf({ simulatedRoot, collateralUrl }: Trust): {
  roots: TrustRoots;
  collateral: CollateralSource;
} {
  const roots: TrustRoots =
    simulatedRoot === undefined ? vendorRoots() : addRoot(vendorRoots(), 'tdx', rootOf(simulatedRoot));
  return { roots, collateral: vendorCollateral({ roots, pccs: collateralUrl, amdKds: undefined }) };
}

function rootOf(pem: string): Uint8Array {
  try {
    return rootCertificate(new TextEncoder().encode(pem));
  } catch (cause) {
    throw new DstackError('argument', 'simulatedRoot is no certificate', { cause });
  }
}

/** Hex of an identity as bytes. @throws DstackError `argument` */
export function identityBytes(name: string, value: string | Uint8Array): Uint8Array {
  if (typeof value !== 'string') return value;
  try {
    return fromHex(value.toLowerCase(), { prefix: 'allow' });
  } catch (cause) {
    throw new DstackError('argument', `${name} is no hex`, { cause });
  }
}
