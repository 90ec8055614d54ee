import { type Attestation, encodeAttestationForAll, stripForCertificate } from '@dstack-cloud/attestation';
import { OID } from '../oid.ts';
import { wrappedExtension } from './certificate-extensions.ts';

/** Extension .8 with the stripped evidence. */
export function attestationExtension(attestation: Attestation): Uint8Array {
  return wrappedExtension(OID.attestation, encodeAttestationForAll(stripForCertificate(attestation)));
}
