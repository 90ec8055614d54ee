import {
  AttestationError,
  boundMethods,
  type CollateralSource,
  derForms,
  pcsCollateral,
  type RootName,
  replaceRoot,
  type TrustRoots,
  vendorRoots,
} from '@dstack-cloud/attestation';
import { EncodingError, utf8Text } from '@dstack-cloud/encoding';
import { parseRaTlsCertificate } from '@dstack-cloud/ra-tls/certificate';
import { type Bundle, openBundle } from '../bundle.ts';
import { readCollateral, staticSource } from '../collateral/static-source.ts';
import { withChain } from '../collateral/with-chain.ts';
import { VerifierError } from '../errors.ts';
import { reportDataOf } from '../evidence/report-data-text.ts';
import type { VerifierPolicy } from '../policy/appraise.ts';
import type { Report } from '../report.ts';
import { verify } from '../verify.ts';

const MAX_DOCUMENT_BYTES = 8 * 1024 * 1024;

/** Everything a person can hand to the verifier in a browser: files as they are, and a few settings. */
export interface VerifyFileInput {
  /** Evidence of any form, or an offline bundle. */
  readonly evidence: Uint8Array;
  /**
   * Where the evidence comes from. An `address` is of whoever is to be verified: a bundle from there, which would bring
   * its own time and collateral, is refused. Default `file`: one of the reader's own.
   */
  readonly from?: 'file' | 'address';
  /** Collateral JSON: DCAP or vTPM, told apart by their members. */
  readonly collateral?: readonly Uint8Array[];
  /** Certificates that travel apart from the evidence: PEM, DER, hex or base64. */
  readonly chain?: readonly Uint8Array[];
  /** Roots to use INSTEAD of the vendor's of that name, in any of these forms. The report then says `simulated`. */
  readonly roots?: readonly { readonly name: RootName; readonly certificate: Uint8Array }[];
  /** Base URL of a PCCS that allows requests from other origins, for what no file gives. */
  readonly pccs?: string;
  /** Unix seconds; default the bundle's time, then the clock. A report about another time than now says so. */
  readonly now?: number;
  /** Challenge that the evidence must carry, hex of up to 64 bytes. */
  readonly reportData?: string;
  /** Nonce with which the evidence was just asked for from a guest agent, instead of `reportData`. */
  readonly nonce?: Uint8Array;
  readonly policy?: VerifierPolicy;
  /** Whether Google's endorsement of the firmware is demanded; default true. */
  readonly firmwareEndorsement?: boolean;
}

/** The report on a file. */
export interface VerifiedFile {
  readonly report: Report;
}

/**
 * Verifies and appraises one file with what else is at hand. Bad evidence is a report; settings that cannot be used are errors.
 * @throws VerifierError
 * @throws AttestationError when collateral has not the form of collateral
 */
export async function verifyFile(input: VerifyFileInput): Promise<VerifiedFile> {
  const bundle = bundleOf(input);
  const chain = [...(bundle?.chain ?? []), ...(input.chain ?? []).flatMap((file) => certificates(file))];
  const now = input.now ?? bundle?.time ?? Math.floor(Date.now() / 1000);
  const report = await verify(bundle?.evidence ?? input.evidence, {
    roots: rootsOf(input),
    collateral: withChain(sourceOf(input, bundle), chain),
    now,
    chain,
    policy: input.policy ?? {},
    readRaTls: parseRaTlsCertificate,
    ...(input.reportData === undefined ? {} : { reportData: reportDataOf(input.reportData) }),
    ...(input.nonce === undefined ? {} : { nonce: input.nonce }),
    ...(input.firmwareEndorsement === false ? { platform: { gcpFirmwareEndorsement: false } } : {}),
  });
  return { report };
}

function bundleOf({ evidence, from = 'file' }: VerifyFileInput): Bundle | undefined {
  const bundle = openBundle(evidence);
  if (bundle === undefined || from === 'file') return bundle;
  throw new VerifierError(
    'malformed',
    'A bundle brings its own time and collateral, so it is not taken from an address: save it, and give it as a file',
  );
}

function rootsOf({ roots = [] }: VerifyFileInput): TrustRoots {
  if (new Set(roots.map(({ name }) => name)).size < roots.length) {
    throw new VerifierError('usage', 'A root is given twice');
  }
  return roots.reduce((known, { name, certificate }) => {
    const [der, ...more] = certificates(certificate);
    if (!der || more.length > 0)
      throw new VerifierError('malformed', `The root ${name} is not one certificate`);
    return replaceRoot(known, name, der);
  }, vendorRoots());
}

/** Files first, then the bundle's own, then the service. */
function sourceOf({ collateral = [], pccs }: VerifyFileInput, bundle: Bundle | undefined): CollateralSource {
  const documents = collateral.map((file) => json(file));
  if (documents.length === 0 && bundle) return bundle.collateral;
  const set = readCollateral(documents);
  const given = staticSource(set);
  if (!pccs || set.dcap.length > 0) return given;
  return { ...given, ...boundMethods(pcsCollateral({ baseUrl: pccs })) };
}

function certificates(file: Uint8Array): Uint8Array[] {
  try {
    return derForms(file, 'CERTIFICATE');
  } catch (cause) {
    if (!(cause instanceof AttestationError)) throw cause;
    throw new VerifierError('malformed', `A certificate cannot be read: ${cause.message}`, { cause });
  }
}

function json(file: Uint8Array): unknown {
  if (file.length > MAX_DOCUMENT_BYTES) throw new VerifierError('too-large', 'Collateral of more than 8 MiB');
  try {
    return JSON.parse(text(file, 'Collateral'));
  } catch (cause) {
    if (cause instanceof VerifierError) throw cause;
    throw new VerifierError('malformed', 'The collateral is not JSON', { cause });
  }
}

function text(bytes: Uint8Array, what: string): string {
  return decoding(what, () => utf8Text(bytes));
}

function decoding<T>(what: string, run: () => T): T {
  try {
    return run();
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw new VerifierError('malformed', `${what} cannot be read: ${cause.message}`, { cause });
  }
}
