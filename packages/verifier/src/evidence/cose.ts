import { AttestationError, parseCoseSign1 } from '@dstack-cloud/attestation';
import { decodeCbor, EncodingError } from '@dstack-cloud/encoding';
import type { Evidence } from './evidence.ts';

/** A bare COSE_Sign1: an NSM document, or a NitroTPM one, told apart by the member that holds the PCRs. */
export function recogniseCose(document: Uint8Array): Evidence {
  return isNitroTpm(document)
    ? { form: 'cose', kind: 'nitro-tpm-document', document }
    : { form: 'cose', kind: 'nitro-document', document };
}

/** What does not parse is handled, and refused, as an NSM document. */
function isNitroTpm(document: Uint8Array): boolean {
  try {
    const payload = decodeCbor(parseCoseSign1(document).payload, { indefinite: true });
    if (!(payload instanceof Map)) return false;
    return payload.has('nitrotpm_pcrs') || /-tpm[0-9a-f]+$/.test(String(payload.get('module_id')));
  } catch (error) {
    if (error instanceof AttestationError || error instanceof EncodingError) return false;
    throw error;
  }
}
