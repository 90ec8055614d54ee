import type { VerifiedAttestation } from '@dstack-cloud/attestation';

type Configured = { readonly vmConfig: string; readonly verified: VerifiedAttestation };

/** The last configuration that came with each evidence: a guest sends the same one again. */
const latest = new WeakMap<VerifiedAttestation, Configured>();

/**
 * The same evidence with the VM configuration that counts: the request's when it has one, else the attested one
 * (chapter 10 section 5.1). From here on there is one configuration, so that no two values come from two sources.
 * The same evidence with the same text is the same object, so that what follows from it can be remembered.
 */
export function withRequestConfig(verified: VerifiedAttestation, vmConfig: string): VerifiedAttestation {
  if (vmConfig === '') return verified;
  const known = latest.get(verified);
  if (known?.vmConfig === vmConfig) return known.verified;
  // All the rest is that of the evidence, which holds most of it as bytes.
  const configured: VerifiedAttestation = Object.create(verified, { config: { value: vmConfig } });
  latest.set(verified, { vmConfig, verified: configured });
  return configured;
}
