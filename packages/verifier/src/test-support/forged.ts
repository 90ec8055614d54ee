import {
  type Attestation,
  AttestationError,
  type CollateralSource,
  decodeAttestation,
  encodeAttestation,
  encodeAttestationV1,
  type RootName,
  replaceRoot,
  type TrustRoot,
  type TrustRoots,
  VerificationCache,
  vendorRoots,
} from '@dstack-cloud/attestation';
import { decodePem, decodePemAll, fromHex, utf8Text } from '@dstack-cloud/encoding';
import { fixture, fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import { readCollateral, staticSource } from '../collateral/static-source.ts';
import type { VerifierPolicy } from '../policy/appraise.ts';
import type { Report } from '../report.ts';
import { unreadableReport, verify } from '../verify.ts';
import type { mockKeys } from './mock-keys.ts';

/** Forged evidence, signed again, with all that verifying it needs. */
export interface Forged {
  readonly attestation: Attestation;
  /** Change to the written attestation. */
  readonly alterBytes?: ((written: Uint8Array) => Uint8Array) | undefined;
  readonly now: number;
  readonly roots: Readonly<Partial<Record<RootName, Uint8Array>>>;
  /** Roots that are taken for the vendors' own, under which every rule of theirs holds. */
  readonly vendors?: readonly RootName[];
  readonly collateral: readonly unknown[];
  /** Revocation lists by the URL that certificates name them with. */
  readonly crls?: Readonly<Record<string, Uint8Array>>;
}

/** What a row of a table expects: `good`, or code and check of the refusal. */
export type Verdict = string;

const SET = 'mock-evidence/set-a';
export const SEED_A: Uint8Array = fromHex('000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f');

export type Keys = ReturnType<typeof mockKeys>;

export const baseAttestation = (id: string): Attestation =>
  decodeAttestation(fixture(`${SET}/evidence/${id}.v0.bin`));
export const baseCollateral = (id: string): Record<string, string> =>
  fixtureJson<Record<string, string>>(`${SET}/collateral/${id}.json`);
export const baseRoot = (name: string): Uint8Array =>
  decodePem(fixtureText(`${SET}/roots/${name}-root-ca.pem`), 'CERTIFICATE');

/** One cache for all cases, as a service has: what one case leaves behind must not help the next. */
const cache = new VerificationCache();

/** How forged evidence is given to the verifier; `bare` is the quote, document or report without the rest. */
export type Form = 'v0' | 'v1' | 'bare';

/** Verifies forged evidence as the command does. */
export async function verifyForged(
  forged: Forged,
  form: Form,
  other: { readonly now?: number; readonly policy?: VerifierPolicy } = {},
): Promise<Report> {
  try {
    return await reportOf(forged, form, other);
  } catch (error) {
    if (error instanceof AttestationError) return unreadableReport(error, forged.now);
    throw error;
  }
}

async function reportOf(
  forged: Forged,
  form: Form,
  other: { readonly now?: number; readonly policy?: VerifierPolicy },
): Promise<Report> {
  const roots = Object.entries(forged.roots).reduce((all, [name, certificate]) => {
    const replaced = replaceRoot(all, name as RootName, certificate);
    return forged.vendors?.includes(name as RootName) ? asVendors(replaced, certificate) : replaced;
  }, vendorRoots());
  const { quote } = forged.attestation;
  const chain = form === 'bare' && 'certChain' in quote ? quote.certChain.flatMap(certificatesOf) : [];
  return verify(bytesOf(forged, form), {
    roots,
    collateral: { ...staticSource(readCollateral(forged.collateral)), ...crlSource(forged) },
    now: forged.now,
    ...other,
    chain,
    cache,
    platform: { gcpFirmwareEndorsement: false },
  });
}

function crlSource({ crls }: Forged): Pick<CollateralSource, 'crl'> {
  if (!crls) return {};
  return {
    crl: (url) => {
      const list = crls[url];
      return list
        ? Promise.resolve(list)
        : Promise.reject(new AttestationError('collateral-unavailable', `No list at ${url}`));
    },
  };
}

/** The same roots, with this one taken for a vendor's own. */
function asVendors(roots: TrustRoots, certificate: Uint8Array): TrustRoots {
  const own = (list: readonly TrustRoot[]) =>
    list.map((root) => (root.der === certificate ? { ...root, simulated: false } : root));
  const { milan, genoa, turin } = roots.sevSnp;
  return {
    tdx: own(roots.tdx),
    gcpTpm: own(roots.gcpTpm),
    nitro: own(roots.nitro),
    nitroTpm: own(roots.nitroTpm),
    sevSnp: { milan: own(milan), genoa: own(genoa), turin: own(turin) },
  };
}

function bytesOf({ attestation, alterBytes }: Forged, form: Form): Uint8Array {
  const { quote } = attestation;
  if (form === 'bare') {
    if ('nsmQuote' in quote) return quote.nsmQuote;
    if ('attestationDoc' in quote) return quote.attestationDoc;
    return 'report' in quote ? quote.report : quote.quote;
  }
  const written = form === 'v0' ? encodeAttestation(attestation) : encodeAttestationV1(attestation);
  return alterBytes?.(written) ?? written;
}

function certificatesOf(bytes: Uint8Array): Uint8Array[] {
  return bytes[0] === 0x2d ? decodePemAll(utf8Text(bytes), 'CERTIFICATE') : [bytes];
}

/** The verdict as tables write it. */
export function verdictOf(report: Report): Verdict {
  if (report.isValid) return report.tcbStatus ? `good ${report.tcbStatus}` : 'good';
  const failed = report.checks.find((check) => !check.ok);
  return `${report.code} ${failed?.id ?? '-'}`;
}
