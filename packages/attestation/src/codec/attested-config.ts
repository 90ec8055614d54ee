import { AttestationError } from '../errors.ts';
import { parseJson } from '../json-fields.ts';

/** Longest configuration, in characters. */
export const MAX_CONFIG: number = 1 << 20;

/**
 * The configuration text of an attestation. A whole sys-config is unwrapped to its string member `vm_config`
 * (docs/protocol/evidence.md section 6). Text that is no JSON object is given back as it is: whoever needs a value in
 * it refuses it then.
 * @throws AttestationError `too-large`
 */
export function attestedConfig(config: string): string {
  let parsed: unknown;
  try {
    parsed = parseJson(config, 'Configuration', MAX_CONFIG);
  } catch (error) {
    if (error instanceof AttestationError && error.code === 'malformed') return config;
    throw error;
  }
  if (typeof parsed !== 'object' || parsed === null || !Object.hasOwn(parsed, 'vm_config')) return config;
  const inner = (parsed as { vm_config: unknown }).vm_config;
  return typeof inner === 'string' ? inner : config;
}
