import { concatBytes, EncodingError, fromHex, isZero } from '@dstack-cloud/encoding';
import { defaultCrypto } from '#crypto';
import { attestedConfig, MAX_CONFIG } from '../codec/attested-config.ts';
import { AttestationError } from '../errors.ts';
import { parseJson } from '../json-fields.ts';
import { pcrOf } from './pcr.ts';

/**
 * `os_image_hash` of the configuration: the attested one if there is one, else the one given beside it.
 * @returns 32 bytes, or nothing when no configuration names an image
 * @throws AttestationError `malformed`
 */
export function configuredImageHash(attested: string, given: string | undefined): Uint8Array {
  const hash = vmConfig(attested, given)['os_image_hash'];
  if (hash === undefined || hash === null || hash === '') return new Uint8Array();
  if (typeof hash !== 'string') throw new AttestationError('malformed', 'os_image_hash is no string');
  try {
    return fromHex(hash, { length: 32, prefix: 'allow' });
  } catch (error) {
    if (!(error instanceof EncodingError)) throw error;
    throw new AttestationError('malformed', 'os_image_hash is not 32 bytes of hex', {
      found: hash.slice(0, 80),
    });
  }
}

/** The VM configuration as a JSON object; `{}` when there is none. @throws AttestationError `malformed`, `too-large` */
export function vmConfig(attested: string, given: string | undefined): Readonly<Record<string, unknown>> {
  const text = attested.trim() !== '' ? attested : attestedConfig(given ?? '');
  if (text.trim() === '') return {};
  const parsed = parseJson(text, 'The VM configuration', MAX_CONFIG);
  if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) {
    return parsed as Record<string, unknown>;
  }
  throw new AttestationError('malformed', 'The VM configuration is no JSON object');
}

/**
 * SHA-256 over the raw bytes of PCR 0, 1, 2; 32 zero bytes for a debug enclave (docs/protocol/verification.md section
 * 8.3).
 */
export function nitroImageHash(pcrs: ReadonlyMap<number, Uint8Array>): Uint8Array {
  const values = [pcrOf(pcrs, 0), pcrOf(pcrs, 1), pcrOf(pcrs, 2)];
  if (values.every(isZero)) return new Uint8Array(32);
  return defaultCrypto.hash('sha256', concatBytes(...values));
}
