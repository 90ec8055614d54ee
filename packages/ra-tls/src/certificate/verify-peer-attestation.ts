import {
  AttestationError,
  ratlsReportData,
  type VerifiedAttestation,
  type VerifyOptions,
  verifyAttestation,
} from '@dstack-cloud/attestation';
import { equalBytes, toHex } from '@dstack-cloud/encoding';
import { messageOf, RaTlsError } from '../errors.ts';
import type { RaTlsCertificate } from './parse-ra-tls-certificate.ts';

/** How peers are verified; the key of the certificate is added. */
export type PeerVerifyOptions = Omit<VerifyOptions, 'ratlsSpki' | 'expectedReportData'>;

/**
 * Verifies the evidence in a certificate: first, without network, that it names the certificate's key, then all of it
 * (docs/protocol/ra-tls.md section 3).
 * @param context what the messages begin with; SignCert has its own
 * @throws RaTlsError `no-attestation`, `report-data-mismatch`, `attestation-refused`
 */
export async function verifyPeerAttestation(
  peer: Pick<RaTlsCertificate, 'spki' | 'attestation'>,
  options: PeerVerifyOptions,
  context = 'invalid quote',
): Promise<VerifiedAttestation> {
  const { attestation, spki } = peer;
  if (!attestation) throw new RaTlsError('no-attestation', 'No attestation provided');
  const expected = ratlsReportData(spki);
  if (!equalBytes(attestation.reportData, expected)) {
    throw new RaTlsError('report-data-mismatch', `${context}: report data mismatch`, {
      expected: toHex(expected),
      found: toHex(attestation.reportData),
    });
  }
  try {
    return await verifyAttestation(attestation, { ...options, ratlsSpki: spki });
  } catch (cause) {
    if (!(cause instanceof AttestationError)) throw cause;
    throw new RaTlsError('attestation-refused', `${context}: ${messageOf(cause)}`, { cause });
  }
}
