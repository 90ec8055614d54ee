import type { AttestationMode } from './attestation.ts';
import { verifyTdx } from './tdx/verify-tdx.ts';
import type { PlatformVerifier } from './verify-context.ts';

/** One line per platform; a mode without a line is refused. */
export const PLATFORMS: Readonly<Partial<Record<AttestationMode, PlatformVerifier>>> = {
  'dstack-tdx': verifyTdx,
};
