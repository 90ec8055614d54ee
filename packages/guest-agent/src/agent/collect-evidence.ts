import type { Attestation } from '@dstack-cloud/attestation';
import type { EvidenceDevice } from '@dstack-cloud/attestation/attester';
import { RpcError } from '@dstack-cloud/prpc';
import { errorChain } from '@dstack-cloud/runtime';

/** Asks the device for evidence over 64 bytes of report data; a device that fails is a 503, not an empty answer. */
export async function collectEvidence(
  { device }: { readonly device: EvidenceDevice },
  reportData: Uint8Array,
  what: 'quote' | 'attestation' | 'local attestation',
): Promise<Attestation> {
  try {
    return await device.attest(reportData);
  } catch (cause) {
    throw new RpcError(`Failed to get ${what}: ${errorChain(cause)}`, {
      code: 'UNAVAILABLE',
      status: 503,
      cause,
    });
  }
}
