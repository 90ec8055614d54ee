import type { AttestationError } from '@dstack-cloud/attestation';
import { RpcError } from '@dstack-cloud/prpc';

/** The original says it twice (docs/protocol/kms.md section 5.2). */
export const IMAGE_REFUSAL = 'Failed to verify os image hash: Failed to verify os image hash';

/** What a caller is told of another image, whoever found it: the check here, or the one before collateral is fetched. */
export function imageRefusal(error: AttestationError, measured: 'actual' | 'computed' = 'actual'): RpcError {
  const { expected, found } = error;
  const values =
    expected !== undefined && found !== undefined ? `: expected=${expected}, ${measured}=${found}` : '';
  return new RpcError(`${IMAGE_REFUSAL}: ${error.message}${values}`, {
    code: 'MEASUREMENT_NOT_FOUND',
    cause: error,
  });
}
