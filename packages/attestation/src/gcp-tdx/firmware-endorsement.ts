import { decodePemAll, equalBytes, toHex, utf8Text } from '@dstack-cloud/encoding';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';
import type { TrustRoot } from '../roots/trust-roots.ts';
import type { VerifyContext } from '../verify-context.ts';
import { nameAttribute, parseCertificate } from '../x509/certificate.ts';
import { validatePath } from '../x509/validate-path.ts';
import { lastField, protobufBytes } from './protobuf-fields.ts';

/**
 * SHA-256 of `GCE-cc-tcb-root_1.crt`. The certificate itself comes with each endorsement; a wrong value here
 * refuses every endorsement and can accept none.
 */
const GCE_TCB_ROOT_SHA256 = 'e876bc6978bf4f3da445f98a0a82363c8c0bae5a1fc033c6df65846a6cb0f18c';
/**
 * Under the same root Google keeps a signer for SVSM firmware (gce-tcb-verifier). That of UEFI firmware is
 * "GCE-uefi-signer" unless somebody chose another name, so it is known by what it is not.
 */
const OTHER_SIGNER = /svsm/i;
const COMMON_NAME = '2.5.4.3';
const MAX_ENDORSEMENT_BYTES = 256 * 1024;
const MAX_CERTIFICATES = 8;
const SECTION = 'docs/protocol/verification.md section 4 step 11';

/** Field numbers of VMLaunchEndorsement, VMGoldenMeasurement, VMTdx and its Measurement. */
const FIELD = { golden: 1, signature: 2, cert: 4, caBundle: 6, tdx: 8, measurements: 2, mrtd: 3 } as const;

/**
 * Google's statement that a firmware is its own: the MRTD must be on the signed list (docs/protocol/verification.md
 * section 4 step 11).
 * @param endorsement VMLaunchEndorsement protobuf, as served
 * @param anchors roots accepted instead of Google's
 * @throws AttestationError `collateral-unavailable` without an endorsement
 */
export async function verifyFirmwareEndorsement(
  endorsement: Uint8Array | undefined,
  mrTd: Uint8Array,
  context: VerifyContext,
  anchors?: readonly TrustRoot[],
): Promise<void> {
  const { checks, crypto, cache, now } = context;
  checks.require(endorsement !== undefined, {
    id: 'gcp.firmware-endorsement',
    reference: SECTION,
    code: 'collateral-unavailable',
    message: "Google's endorsement of the firmware is not available",
    expected: `endorsement of MRTD ${toHex(mrTd)}`,
    found: 'none',
  });
  const { golden, signature, cert, bundle, mrTds } = await checks.step('gcp.endorsement-form', SECTION, () =>
    parseEndorsement(endorsement!),
  );
  const path = await checks.step('gcp.endorsement-chain', SECTION, () =>
    validatePath(
      parseCertificate(cert),
      bundle.map((der) => parseCertificate(der)),
      { anchors: anchors ?? pinnedRoots(bundle, context), now, revocation: 'none' },
      crypto,
      cache,
    ),
  );
  const leaf = path.chain[0]!;
  const name = nameAttribute(leaf.subject, COMMON_NAME) ?? '';
  checks.require(leaf.keyUsage?.digitalSignature !== false && !OTHER_SIGNER.test(name), {
    id: 'gcp.endorsement-signer',
    reference: SECTION,
    code: 'chain-invalid',
    message: 'The firmware endorsement is signed by a certificate that is not for firmware',
    expected: 'the signer of UEFI firmware, with digitalSignature',
    found: name.slice(0, 64),
  });
  const key = await cache.key(crypto, leaf.spki);
  checks.require(await crypto.verify(key, 'rsa-pss-sha256', signature, golden), {
    id: 'gcp.endorsement-signature',
    reference: SECTION,
    code: 'signature-invalid',
    message: 'The firmware endorsement is not signed by its certificate',
  });
  checks.require(
    mrTds.some((value) => equalBytes(value, mrTd)),
    {
      id: 'gcp.endorsed-mrtd',
      reference: SECTION,
      code: 'image',
      message: 'Google does not endorse this firmware: MRTD is not on the signed list',
      expected: mrTds.slice(0, 16).map(toHex).join(' or '),
      found: toHex(mrTd),
    },
  );
}

function parseEndorsement(bytes: Uint8Array) {
  if (bytes.length > MAX_ENDORSEMENT_BYTES) {
    throw new AttestationError('too-large', `Firmware endorsement of ${bytes.length} bytes`);
  }
  const outer = protobufBytes(bytes);
  const golden = lastField(outer, FIELD.golden);
  const signature = lastField(outer, FIELD.signature);
  if (!golden || !signature) {
    throw new AttestationError('malformed', 'Firmware endorsement without statement or signature');
  }
  const inner = protobufBytes(golden);
  const cert = lastField(inner, FIELD.cert);
  const tdx = lastField(inner, FIELD.tdx);
  if (!cert || !tdx) {
    throw new AttestationError('malformed', 'Firmware endorsement without certificate or TDX measurements');
  }
  const pem = lastField(inner, FIELD.caBundle);
  const bundle = pem
    ? decoding('CA bundle of the firmware endorsement', () => decodePemAll(utf8Text(pem), 'CERTIFICATE'))
    : [];
  if (bundle.length > MAX_CERTIFICATES) {
    throw new AttestationError('too-large', `Firmware endorsement with ${bundle.length} certificates`);
  }
  const measurements = protobufBytes(tdx).get(FIELD.measurements) ?? [];
  const mrTds = measurements.flatMap((entry) => protobufBytes(entry).get(FIELD.mrtd) ?? []);
  return { golden, signature, cert, bundle, mrTds };
}

function pinnedRoots(bundle: readonly Uint8Array[], { crypto }: VerifyContext): TrustRoot[] {
  return bundle
    .filter((der) => toHex(crypto.hash('sha256', der)) === GCE_TCB_ROOT_SHA256)
    .map((der) => ({ name: 'GCE-cc-tcb-root', der, simulated: false }));
}
