import { AttestationError } from '../errors.ts';

/** The configuration text of an attestation; a whole sys-config is unwrapped to its `vm_config`. */
export function attestedConfig(_config: string): string {
  throw new AttestationError('unsupported', 'not available');
}
