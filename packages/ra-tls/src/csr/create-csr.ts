import type { Attestation } from '@dstack-cloud/attestation';
import type { P256Key } from '@dstack-cloud/keys';
import { CONFIRM_WORD, type CsrConfig, encodeCsrV2 } from './csr.ts';
import { signCsr } from './verify-csr.ts';

/**
 * A signed request of format 2 for SignCert.
 * @param attestation over `ratlsReportData` of the key
 */
export function createCsr(
  key: P256Key,
  config: CsrConfig,
  attestation: Attestation,
): { readonly csr: Uint8Array; readonly signature: Uint8Array } {
  const csr = encodeCsrV2({ confirm: CONFIRM_WORD, pubkey: key.spki, config, attestation });
  return { csr, signature: signCsr(csr, key) };
}
