import { equalBytes, toHex } from '@dstack-cloud/encoding';
import { requireOptionalRevocation } from '../optional-revocation.ts';
import { anchorParts } from '../roots/anchor-parts.ts';
import type { TrustRoot } from '../roots/trust-roots.ts';
import { cachedStage } from '../stage.ts';
import type { VerifyContext } from '../verify-context.ts';
import { type Certificate, parseCertificate } from '../x509/certificate.ts';
import { type ValidatedPath, validatePath } from '../x509/validate-path.ts';
import { type CoseSign1, parseCoseSign1, signedBytes } from './cose-sign1.ts';
import { type NitroDocument, parseNitroDocument } from './document.ts';
import { requireDocumentSigner } from './document-signer.ts';

const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
const DEFAULT_MAX_AGE_SECONDS = 300;
const SECTION = 'docs/protocol/verification.md section 5';

export interface VerifiedDocument {
  readonly document: NitroDocument;
  readonly path: ValidatedPath;
  /** Unix seconds between which chain and freshness both hold. */
  readonly validFrom: number;
  readonly validUntil: number;
}

/**
 * An NSM or NitroTPM document on its own: form, AWS's rules, freshness, chain, signature (docs/protocol/verification.md
 * section 5 steps 1 to 5 and 8). Revocation lists are asked for last, once nothing is wrong with the document.
 * @param kind the anchors of the two kinds are configured apart
 * @param alone what else of the document needs nobody to be asked
 * @throws AttestationError
 */
export async function verifyNitroDocument(
  bytes: Uint8Array,
  kind: 'nsm' | 'nitro-tpm',
  context: VerifyContext,
  alone: (verified: VerifiedDocument) => void | Promise<void> = () => undefined,
): Promise<VerifiedDocument> {
  const { checks } = context;
  const cose = await checks.step('nitro.cose', `${SECTION} step 1, RFC 9052`, () => parseCoseSign1(bytes));
  const document = await checks.step('nitro.document', `${SECTION} step 1`, () =>
    parseNitroDocument(cose.payload, kind),
  );
  const [from, until] = requireFresh(document, context);
  const anchors = kind === 'nsm' ? context.roots.nitro : context.roots.nitroTpm;
  const path = await verifyChain(document, anchors, context);
  requireDocumentSigner(kind, document.moduleId, path, checks);
  await verifySignature(cose, path.chain[0]!, context);
  const verified = {
    document,
    path,
    validFrom: Math.max(path.validFrom, from),
    validUntil: Math.min(path.validUntil, until),
  };
  await alone(verified);
  const mode = context.options.platform?.nitroCrl ?? 'soft';
  await requireOptionalRevocation(
    path,
    { id: 'nitro.revocation', reference: `${SECTION} step 8`, mode },
    context,
  );
  return verified;
}

/** The time between which a document counts as fresh, in whole seconds. */
function requireFresh(document: NitroDocument, context: VerifyContext): [number, number] {
  const maxAge = context.options.platform?.nitroMaxAgeSeconds;
  if (maxAge === null) return [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  const bound = maxAge ?? DEFAULT_MAX_AGE_SECONDS;
  const ageMs = context.now * 1000 - document.timestamp;
  context.checks.require(Math.abs(ageMs) <= bound * 1000, {
    id: 'nitro.freshness',
    reference: `${SECTION} step 2`,
    code: ageMs > 0 ? 'expired' : 'not-yet-valid',
    message:
      ageMs > 0
        ? `The attestation document is stale: ${Math.floor(ageMs / 1000)} s old`
        : `The attestation document is from the future: ${Math.floor(-ageMs / 1000)} s`,
    expected: `at most ${bound} s from now`,
    found: `${(ageMs / 1000).toFixed(0)} s`,
  });
  return [Math.ceil(document.timestamp / 1000 - bound), Math.floor(document.timestamp / 1000 + bound)];
}

/**
 * Leaf below cabundle[n-1] … cabundle[1] below the anchor, whose key cabundle[0] must carry. An enclave keeps
 * its certificate for hours, so the chain is remembered by the hash of its certificates.
 */
async function verifyChain(
  document: NitroDocument,
  anchors: readonly TrustRoot[],
  context: VerifyContext,
): Promise<ValidatedPath> {
  const key = [document.certificate, ...document.cabundle, ...anchorParts(anchors)];
  return cachedStage('nitro-chain', key, context, (checks) =>
    verifyDocumentChain(document, anchors, { ...context, checks }),
  );
}

async function verifyDocumentChain(
  document: NitroDocument,
  anchors: readonly TrustRoot[],
  context: VerifyContext,
): Promise<ValidatedPath> {
  const { checks, crypto, cache, now } = context;
  const reference = `${SECTION} step 3`;
  const { leaf, bundle } = await checks.step('nitro.certificates', reference, () => ({
    leaf: parseCertificate(document.certificate),
    bundle: document.cabundle.map((der) => parseCertificate(der)),
  }));
  const path = await checks.step('nitro.chain', reference, () =>
    validatePath(
      leaf,
      bundle.slice(1),
      { anchors, now, revocation: 'none', extendedKeyUsage: [CLIENT_AUTH] },
      crypto,
      cache,
    ),
  );
  const anchor = path.chain.at(-1)!;
  checks.require(equalBytes(bundle[0]!.spki, anchor.spki), {
    id: 'nitro.cabundle-root',
    reference,
    code: 'chain-invalid',
    message: 'The first certificate of the cabundle is not for the trust root',
    expected: () => `${path.anchor.name} (${toHex(crypto.hash('sha256', anchor.spki))})`,
    found: () => toHex(crypto.hash('sha256', bundle[0]!.spki)),
  });
  // AWS gives the chain in order, root first; what is not part of it has no place in the document.
  const ordered = bundle.slice(1).reverse();
  const between = path.chain.slice(1, -1);
  checks.require(
    ordered.length === between.length && ordered.every(({ der }, i) => equalBytes(der, between[i]!.der)),
    {
      id: 'nitro.cabundle-order',
      reference,
      code: 'chain-invalid',
      message: 'The cabundle is not the chain in order, root first',
      expected: `${between.length} certificates between root and leaf`,
      found: `${ordered.length}`,
    },
  );
  const kinds = await checks.attempt('nitro.chain-keys', reference, () =>
    Promise.all(path.chain.map(async ({ spki }) => (await cache.key(crypto, spki)).kind)),
  );
  checks.require(
    kinds.every((kind) => kind === 'p384'),
    {
      id: 'nitro.chain-keys',
      reference,
      code: 'unsupported',
      message: 'The certificates of an attestation document have P-384 keys',
      expected: 'p384',
      found: kinds.join(', '),
    },
  );
  return path;
}

async function verifySignature(cose: CoseSign1, leaf: Certificate, context: VerifyContext): Promise<void> {
  const key = await context.cache.key(context.crypto, leaf.spki);
  context.checks.require(
    await context.crypto.verify(key, 'ecdsa-sha384', cose.signature, signedBytes(cose)),
    {
      id: 'nitro.signature',
      reference: `${SECTION} step 5, RFC 9052 section 4.4`,
      code: 'signature-invalid',
      message: 'The attestation document is not signed by its certificate',
    },
  );
}
