import { equalBytes, fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import type { CheckRecorder } from '../check-recorder.ts';
import type { DcapCollateral } from '../collateral-source.ts';
import type { CryptoBackend } from '../crypto/backend.ts';
import { AttestationError } from '../errors.ts';
import type { TrustRoot } from '../roots/trust-roots.ts';
import { cachedStage, type Dated } from '../stage.ts';
import type { VerifyContext } from '../verify-context.ts';
import { anchorCertificate } from '../x509/anchor-certificate.ts';
import { checkDates } from '../x509/certificate-rules.ts';
import { type CertificateRevocationList, parseCrl } from '../x509/crl.ts';
import { checkList, checkNotListed } from '../x509/revocation.ts';
import type { ValidatedPath } from '../x509/validate-path.ts';
import { checkQeIdentityKind, parseQeIdentity, type QeIdentity } from './qe-identity.ts';
import { validateIntelChain, verifySignedJson } from './signed-json.ts';
import { parseTcbInfo, type TcbInfo } from './tcb-info.ts';

/** Collateral whose signatures, chains and dates are good. */
export interface VerifiedCollateral extends Dated {
  readonly tcbInfo: TcbInfo;
  readonly qeIdentity: QeIdentity;
  /** The root of all of it; the PCK chain must lead to the same one. */
  readonly root: TrustRoot;
  /** For the PCK chain, which is validated with the quote. */
  readonly crls: readonly CertificateRevocationList[];
  /** SHA-256 of everything in it. */
  readonly digest: Uint8Array;
}

const REFERENCE_ROOT = 'docs/protocol/verification.md section 2.2 step 2';

/** Steps 2, 3 and 4 of docs/protocol/verification.md section 2.2; remembered by the collateral's hash. */
export function verifyCollateral(
  collateral: DcapCollateral,
  tee: 'tdx' | 'sgx',
  context: VerifyContext,
): Promise<VerifiedCollateral> {
  const digest = collateralDigest(collateral, context.crypto);
  const key = [digest, rootsDigest(context)];
  return cachedStage(`tdx-collateral:${tee}`, key, context, async (checks) => {
    // Lists are told apart by their issuer, not by the field they came in.
    const crls = await checks.step('tdx.crl-form', 'RFC 5280 section 5', () => [
      parseCrl(collateral.rootCaCrl),
      parseCrl(collateral.pckCrl),
    ]);
    const { list: rootCrl, root } = await verifyRootCrl(crls, checks, context);
    // Intel signs both with one certificate: one chain, validated once.
    const paths = new Map<string, Promise<ValidatedPath>>();
    const pathOf = (pem: string) => {
      const path = paths.get(pem) ?? validateIntelChain(pem, root, crls, context);
      paths.set(pem, path);
      return path;
    };
    const tcb = await verifySignedJson(
      {
        name: 'tcb-info',
        text: collateral.tcbInfo,
        signature: collateral.tcbInfoSignature,
        path: () => pathOf(collateral.tcbInfoIssuerChain),
      },
      parseTcbInfo,
      checks,
      context,
    );
    const qe = await verifySignedJson(
      {
        name: 'qe-identity',
        text: collateral.qeIdentity,
        signature: collateral.qeIdentitySignature,
        path: () => pathOf(collateral.qeIdentityIssuerChain),
      },
      parseQeIdentity,
      checks,
      context,
    );
    await checks.step('tdx.qe-identity-kind', 'docs/protocol/verification.md section 2.2 step 4', () =>
      checkQeIdentityKind(qe.value, tee),
    );
    return {
      tcbInfo: tcb.value,
      qeIdentity: qe.value,
      root,
      crls,
      digest,
      validFrom: Math.max(
        rootCrl.thisUpdate,
        tcb.value.issueDate,
        qe.value.issueDate,
        tcb.path.validFrom,
        qe.path.validFrom,
      ),
      validUntil: Math.min(
        rootCrl.nextUpdate - 1,
        tcb.value.nextUpdate,
        qe.value.nextUpdate,
        tcb.path.validUntil,
        qe.path.validUntil,
      ),
    };
  });
}

/** The root's own list: signed by a configured root, in force, and not naming that root. It decides the root. */
async function verifyRootCrl(
  crls: readonly CertificateRevocationList[],
  checks: CheckRecorder,
  context: VerifyContext,
): Promise<{ list: CertificateRevocationList; root: TrustRoot }> {
  return checks.step('tdx.root-crl', REFERENCE_ROOT, async () => {
    let refusal: AttestationError | undefined;
    for (const { root, certificate, list } of candidates(crls, context)) {
      try {
        checkDates(certificate, context.now, 'root');
        await checkList(list, certificate, context.now, context.crypto, context.cache);
        checkNotListed(certificate, list);
        return { list, root };
      } catch (error) {
        if (!(error instanceof AttestationError)) throw error;
        refusal = error;
      }
    }
    throw refusal ?? new AttestationError('revocation-unknown', 'No revocation list is of a configured root');
  });
}

function candidates(crls: readonly CertificateRevocationList[], context: VerifyContext) {
  return context.roots.tdx.flatMap((root) => {
    const certificate = anchorCertificate(root);
    return crls
      .filter((list) => equalBytes(list.issuer, certificate.subject))
      .map((list) => ({ root, certificate, list }));
  });
}

const digests = new WeakMap<object, string>();

/**
 * Hash of everything in a collateral object. Remembered per object: whoever changes one afterwards is still
 * appraised by what was verified, never by what was not.
 */
function collateralDigest(collateral: DcapCollateral, crypto: CryptoBackend): Uint8Array {
  const known = digests.get(collateral);
  if (known) return fromHex(known);
  const digest = hashList(crypto, [
    utf8(collateral.pckCrlIssuerChain),
    collateral.rootCaCrl,
    collateral.pckCrl,
    utf8(collateral.tcbInfoIssuerChain),
    utf8(collateral.tcbInfo),
    collateral.tcbInfoSignature,
    utf8(collateral.qeIdentityIssuerChain),
    utf8(collateral.qeIdentity),
    collateral.qeIdentitySignature,
    utf8(collateral.pckCertificateChain ?? ''),
  ]);
  digests.set(collateral, toHex(digest));
  return digest;
}

/** Hash of the TDX roots, with what is reported of them: every cached chain depends on it. */
export function rootsDigest(context: VerifyContext): Uint8Array {
  const known = digests.get(context);
  if (known) return fromHex(known);
  const digest = hashList(
    context.crypto,
    context.roots.tdx.flatMap((root) => [root.der, utf8(root.name), Uint8Array.of(root.simulated ? 1 : 0)]),
  );
  digests.set(context, toHex(digest));
  return digest;
}

function hashList(crypto: CryptoBackend, parts: readonly Uint8Array[]): Uint8Array {
  const lengths = new Uint8Array(new Uint32Array(parts.map((part) => part.length)).buffer);
  return crypto.hash('sha256', lengths, ...parts);
}
