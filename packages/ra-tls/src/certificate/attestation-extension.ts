import {
  type Attestation,
  encodeAttestation,
  encodeAttestationV1,
  stripForCertificate,
} from '@dstack-cloud/attestation';
import { OID } from '../oid.ts';
import { wrappedExtension } from './certificate-extensions.ts';

/**
 * Extension .8 with the stripped evidence. Version 0 (SCALE) is understood by every generation of readers, so
 * version 1 is written only for what version 0 cannot carry (chapter 10 section 3.1).
 */
export function attestationExtension(attestation: Attestation): Uint8Array {
  const stripped = stripForCertificate(attestation);
  const encode = needsVersion1(stripped) ? encodeAttestationV1 : encodeAttestation;
  return wrappedExtension(OID.attestation, encode(stripped));
}

function needsVersion1({ quote, runtimeEvents, reportDataPayload }: Attestation): boolean {
  const tdxEvents = 'eventLog' in quote ? quote.eventLog : [];
  return (
    reportDataPayload !== undefined || [...runtimeEvents, ...tdxEvents].some((event) => event.version === 2)
  );
}
