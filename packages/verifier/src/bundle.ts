import type { CollateralSource } from '@dstack-cloud/attestation';
import { EncodingError, fromBase64, toBase64 } from '@dstack-cloud/encoding';
import * as z from 'zod/mini';
import { collateralUnavailable } from './collateral/no-collateral.ts';
import type { RecordedCollateral } from './collateral/recorder.ts';
import { readCollateral, staticSource } from './collateral/static-source.ts';
import { VerifierError } from './errors.ts';
import { utcTime } from './verdict.ts';
import type { VerifyEvidenceOptions } from './verify.ts';

const FORMAT = 'dstack-evidence-bundle';
/** Clocks differ; a bundle cannot be made for a time that has not come. */
const MAX_AHEAD_SECONDS = 300;

/** The small build of zod: this file is part of the browser's bundle. */
const Schema = z.strictObject({
  format: z.literal(FORMAT),
  version: z.literal(1),
  time: z.int().check(z.positive()),
  evidence: z.string(),
  chain: z.array(z.string()).check(z.maxLength(8)),
  collateral: z.strictObject({
    documents: z.array(z.unknown()).check(z.maxLength(16)),
    snp: z
      .array(z.strictObject({ ask: z.string(), vcek: z.string(), crl: z.optional(z.string()) }))
      .check(z.maxLength(4)),
    pck_certificates: z.array(z.string()).check(z.maxLength(4)),
    crls: z.record(z.string(), z.string()),
  }),
});

/** Evidence, everything that verifying it needs, and the time of the verdict; roots and policy stay the reader's. */
export interface Bundle {
  readonly evidence: Uint8Array;
  /** Unix seconds. */
  readonly time: number;
  /** DER. */
  readonly chain: readonly Uint8Array[];
  readonly collateral: CollateralSource;
}

/** The bundle as JSON text, the same for the same parts. */
export function bundleText(
  evidence: Uint8Array,
  time: number,
  chain: readonly Uint8Array[],
  collateral: RecordedCollateral,
): string {
  const body = {
    format: FORMAT,
    version: 1,
    time,
    evidence: toBase64(evidence),
    chain: chain.map((der) => toBase64(der)),
    collateral,
  };
  return `${JSON.stringify(body, undefined, 1)}\n`;
}

/**
 * The bundle in a file of the reader's own; undefined for evidence of another form. A bundle decides for which time, and
 * with which collateral, evidence is verified: so it is never opened when it came from whoever is to be verified.
 * @param clock unix seconds
 * @throws VerifierError `malformed`
 */
export function openBundle(
  file: Uint8Array,
  clock: number = Math.floor(Date.now() / 1000),
): Bundle | undefined {
  if (file[0] !== 0x7b) return undefined;
  const text = new TextDecoder().decode(file);
  if (!isBundle(text)) return undefined;
  const bundle = readBundle(text);
  if (bundle.time <= clock + MAX_AHEAD_SECONDS) return bundle;
  throw new VerifierError('malformed', `The bundle is of ${utcTime(bundle.time)}, which is in the future`);
}

/**
 * Options to verify a bundle with: its time, its collateral and its certificates, unless the reader gave others.
 * @param given what the reader gave
 */
export function withBundle(
  bundle: Bundle,
  options: VerifyEvidenceOptions,
  given: { readonly time: boolean; readonly collateral: boolean },
): VerifyEvidenceOptions {
  return {
    ...options,
    chain: [...bundle.chain, ...(options.chain ?? [])],
    ...(given.time ? {} : { now: bundle.time }),
    ...(given.collateral ? {} : { collateral: bundle.collateral }),
  };
}

/** Whether a text is meant to be a bundle: nothing else has this as a member's value. */
function isBundle(text: string): boolean {
  return text.includes(`"${FORMAT}"`);
}

function readBundle(text: string): Bundle {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new VerifierError('malformed', 'The bundle is not JSON', { cause });
  }
  const parsed = Schema.safeParse(json);
  if (!parsed.success) {
    throw new VerifierError('malformed', `The bundle has another form: ${z.prettifyError(parsed.error)}`);
  }
  const { evidence, time, chain, collateral } = parsed.data;
  return { evidence: bytes(evidence), time, chain: chain.map(bytes), collateral: sourceOf(collateral) };
}

function sourceOf(collateral: z.infer<typeof Schema>['collateral']): CollateralSource {
  const [snp] = collateral.snp;
  const [pem] = collateral.pck_certificates;
  return {
    ...staticSource(readCollateral(collateral.documents)),
    ...(pem === undefined ? {} : { pckCertificate: () => Promise.resolve(pem) }),
    snp: async () => {
      if (!snp) throw collateralUnavailable('SEV-SNP certificates');
      const crl = snp.crl === undefined ? {} : { crl: bytes(snp.crl) };
      return { ask: bytes(snp.ask), vcek: bytes(snp.vcek), ...crl };
    },
    crl: async (url) => {
      const value = Object.hasOwn(collateral.crls, url) ? collateral.crls[url] : undefined;
      if (value === undefined) throw collateralUnavailable('revocation list');
      return bytes(value);
    },
  };
}

function bytes(base64: string): Uint8Array {
  try {
    return fromBase64(base64);
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw new VerifierError('malformed', 'The bundle holds text that is no base64', { cause });
  }
}
