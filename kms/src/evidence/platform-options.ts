import type { PlatformOptions } from '@dstack-cloud/attestation';
import type { KmsConfig } from '../config/kms-config.ts';

/** How this KMS verifies evidence, its own and that of others. */
export function platformOptions({ core }: KmsConfig): PlatformOptions {
  return {
    // The image check recomputes the registers; the log need not be complete (docs/protocol/evidence.md section 7.1).
    tdxBootEventReplay: false,
    // Skipped for machines under a configured root alone, and every result about those says simulated.
    gcpFirmwareEndorsement: core.attestation.insecure_skip_gcp_firmware_endorsement ? 'vendor' : true,
    gcpPcr0: core.image.gcp_allowed_pcr0.map((pcr) => pcr.replace(/^0x/, '').toLowerCase()),
  };
}
