import type { VerifiedAttestation } from '@dstack-cloud/attestation';

/**
 * The same evidence with the VM configuration that counts: the request's when it has one, else the attested one
 * (chapter 10 section 5.1). From here on there is one configuration, so that no two values come from two sources.
 */
export function withRequestConfig(verified: VerifiedAttestation, vmConfig: string): VerifiedAttestation {
  return vmConfig === '' ? verified : { ...verified, config: vmConfig };
}
