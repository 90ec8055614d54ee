import type { VerifiedAttestation } from '@dstack-cloud/attestation';
import { RpcError } from '@dstack-cloud/prpc';

type Configured = { readonly vmConfig: string; readonly verified: VerifiedAttestation };

/** Longest configuration of a request, in characters. Those of guests are of some kilobytes. */
const MAX_VM_CONFIG = 128 * 1024;
/** Longer ones are parsed again each time. */
const MAX_KEPT = 16 * 1024;

/** The last configuration that came with each evidence and was found right: a guest sends the same one again. */
const latest = new WeakMap<VerifiedAttestation, Configured>();

/** @throws RpcError `INVALID_ARGUMENT`, before anything is done with it */
export function assertConfigSize(vmConfig: string): void {
  if (vmConfig.length <= MAX_VM_CONFIG) return;
  throw new RpcError(`vm_config must be at most ${MAX_VM_CONFIG} characters, found ${vmConfig.length}`, {
    code: 'INVALID_ARGUMENT',
  });
}

/**
 * The same evidence with the VM configuration that counts: the request's when it has one, else the attested one
 * (docs/protocol/kms.md section 5.3). From here on there is one configuration, so that no two values come from two
 * sources.
 */
export function withRequestConfig(verified: VerifiedAttestation, vmConfig: string): VerifiedAttestation {
  if (vmConfig === '') return verified;
  const known = latest.get(verified);
  if (known?.vmConfig === vmConfig) return known.verified;
  // All the rest is that of the evidence, which holds most of it as bytes.
  return Object.create(verified, { config: { value: vmConfig } }) as VerifiedAttestation;
}

/**
 * Remembers evidence with a configuration that was found right, so that the same text gives the same object next time,
 * and with it what was derived from it. Nothing is kept of what was merely sent.
 */
export function keepRequestConfig(verified: VerifiedAttestation, configured: VerifiedAttestation): void {
  if (configured === verified || configured.config.length > MAX_KEPT) return;
  latest.set(verified, { vmConfig: configured.config, verified: configured });
}
