import { parseCoseSign1, parseNitroDocument } from '@dstack-cloud/attestation';
import { RaTlsError } from '@dstack-cloud/ra-tls';
import type { EvidenceVerifier } from './evidence-verifier.ts';
import type { NonceFault, ServerNonces } from './nonces.ts';
import type { VerifiedEvidence } from './verified-evidence.ts';

const REFUSALS: Readonly<Record<NonceFault | 'missing', string>> = {
  missing: 'the document has no nonce of this KMS: get one from /nonce',
  foreign: 'the document has no nonce of this KMS: get one from /nonce',
  forged: 'the nonce was not made by this KMS',
  expired: 'the nonce has expired: get another from /nonce',
  reused: 'the nonce was shown by another key before',
};

/**
 * The same verifier, which also looks at the nonce in an enclave's document. One that says it is a KMS's must be good,
 * whatever is configured; none, or one of somebody else's, is refused only when nonces are required.
 */
export function withNonces(
  verifier: EvidenceVerifier,
  nonces: ServerNonces,
  required: boolean,
): EvidenceVerifier {
  function admit(verified: VerifiedEvidence, spki: Uint8Array): VerifiedEvidence {
    if (verified.mode !== 'dstack-nitro-enclave') return verified;
    const { quote } = verified.verified().attestation;
    if (quote.mode !== verified.mode)
      throw new RaTlsError('attestation-refused', 'invalid quote: no enclave document');
    const { nonce } = parseNitroDocument(parseCoseSign1(quote.nsmQuote).payload, 'nsm');
    const isMissing = nonce === undefined || nonce.length === 0;
    const fault = isMissing ? 'missing' : nonces.check(nonce, spki);
    const matters = required || (fault !== 'missing' && fault !== 'foreign');
    if (fault === undefined || !matters) return verified;
    throw new RaTlsError('attestation-refused', `invalid quote: ${REFUSALS[fault]}`);
  }
  return {
    ...verifier,
    readAndVerify: async (read, prover) => {
      let spki: Uint8Array | undefined;
      const verified = await verifier.readAndVerify(() => {
        const peer = read();
        spki = peer.spki;
        return peer;
      }, prover);
      return admit(verified, spki!);
    },
    verifyCertificate: async (shown, prover) => {
      const verified = await verifier.verifyCertificate(shown, prover);
      return verified && admit(verified, shown.spki);
    },
    knownResult: (shown) => {
      const known = verifier.knownResult(shown);
      return known && admit(known, shown.spki);
    },
  };
}
