import { X509Certificate } from 'node:crypto';
import type { VerifiedAttestation } from '@dstack-cloud/attestation';
import { equalBytes, toHex } from '@dstack-cloud/encoding';
import { parseRaTlsCertificate, type RaTlsCertificate } from '../certificate/parse-ra-tls-certificate.ts';
import { RaTlsError } from '../errors.ts';
import { USAGE } from '../oid.ts';
import type { PeerVerifier } from './peer.ts';

/** What the server at the other end must be. */
export interface ServerRules {
  /** Text that its usage extension must hold; default `kms:rpc`, which no application can get. Null: not looked at. */
  readonly usage?: string | null;
  /** Whether its certificate must carry evidence; default `if-present`, which verifies what is there. */
  readonly evidence?: 'required' | 'if-present' | 'ignore';
  readonly verify?: PeerVerifier;
  /** DER SubjectPublicKeyInfo that its certificate must have. */
  readonly pinnedSpki?: Uint8Array;
  /** Called when everything was found right, before anything is sent. May refuse by throwing. */
  readonly onServer?: (certificate: RaTlsCertificate, verified?: VerifiedAttestation) => void | Promise<void>;
}

/**
 * Checks the server of a finished handshake.
 * @param shown its certificate
 * @param root PEM of the root that the handshake was held to
 * @throws RaTlsError
 */
export async function checkServer(shown: X509Certificate, rules: ServerRules, root?: string): Promise<void> {
  const certificate = parseRaTlsCertificate(new Uint8Array(shown.raw));
  const { usage = USAGE.kmsRpc, evidence = 'if-present', pinnedSpki, verify } = rules;
  if (usage !== null && certificate.usage !== usage) {
    const found = certificate.usage ?? 'none';
    throw new RaTlsError('wrong-usage', `The server's certificate is for "${found}", expected "${usage}"`, {
      expected: usage,
      found,
    });
  }
  // Usage is text that any CA can write: below the root there are the CAs of applications.
  if (usage === USAGE.kmsRpc && root !== undefined && !isIssuedBy(shown, new X509Certificate(root))) {
    throw new RaTlsError('wrong-usage', "The server's certificate is not one that the root itself issued", {
      expected: 'issued by the root',
      found: shown.issuer,
    });
  }
  if (pinnedSpki && !equalBytes(pinnedSpki, certificate.spki)) {
    throw new RaTlsError('pin-mismatch', "The server's key is not the pinned one", {
      expected: toHex(pinnedSpki),
      found: toHex(certificate.spki),
    });
  }
  if (evidence === 'required' && !certificate.attestation) {
    throw new RaTlsError('no-attestation', "The server's certificate does not contain attestation");
  }
  const wanted = evidence !== 'ignore' && certificate.attestation !== undefined;
  if (wanted && !verify)
    throw new RaTlsError('attestation-refused', 'Nothing can verify the evidence of the server');
  const verified = wanted ? await verify!(certificate) : undefined;
  await rules.onServer?.(certificate, verified);
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}
