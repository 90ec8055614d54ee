import type { AttestationMode } from './attestation.ts';
import { verifyGcpTdx } from './gcp-tdx/verify-gcp-tdx.ts';
import { verifyNitro } from './nitro/verify-nitro.ts';
import { verifyNitroTpm } from './nitro-tpm/verify-nitro-tpm.ts';
import { verifySnp } from './snp/verify-snp.ts';
import { verifyTdx } from './tdx/verify-tdx.ts';
import type { PlatformVerifier } from './verify-context.ts';

/** One line per platform; a mode without a line is refused. */
export const PLATFORMS: Readonly<Partial<Record<AttestationMode, PlatformVerifier>>> = {
  'dstack-tdx': verifyTdx,
  'dstack-gcp-tdx': verifyGcpTdx,
  'dstack-nitro-enclave': verifyNitro,
  'dstack-amd-sev-snp': verifySnp,
  'dstack-aws-nitro-tpm': verifyNitroTpm,
};
