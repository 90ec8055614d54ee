import { fromBase64 } from '@dstack-cloud/encoding';
import { decoding } from '../../decoding.ts';
import { AttestationError } from '../../errors.ts';
import { configuredImageHash, vmConfig } from '../image-hash.ts';

const MAX_DOCUMENT_CHARS = 256 * 1024;

/** `{checksum_file, measurement}` of a vm_config, decoded (docs/protocol/images.md section 3.1). */
export interface MeasurementMaterial {
  readonly checksumFile: Uint8Array;
  readonly measurement: Uint8Array;
}

/** The members of a vm_config that say which OS image is meant (docs/protocol/images.md section 2). */
export interface ImageConfig {
  /** 32 bytes. */
  readonly osImageHash: Uint8Array;
  readonly members: Readonly<Record<string, unknown>>;
}

/**
 * Reads what the configuration says about the image; the attested one wins over the one given beside it.
 * @throws AttestationError `image` when no configuration names an image: nothing then says what is measured
 */
export function readImageConfig(attested: string, given: string | undefined): ImageConfig {
  const osImageHash = configuredImageHash(attested, given);
  if (osImageHash.length === 0) {
    throw new AttestationError('image', 'The configuration names no OS image: os_image_hash is missing');
  }
  return { osImageHash, members: vmConfig(attested, given) };
}

/**
 * A member of the form `{checksum_file, measurement}`, both base64.
 * @returns undefined when the member is absent
 */
export function readMaterial(config: ImageConfig, name: string): MeasurementMaterial | undefined {
  const value = config.members[name];
  if (value === undefined || value === null) return undefined;
  return materialOf(value, name);
}

/** @throws AttestationError `malformed` */
export function materialOf(value: unknown, name: string): MeasurementMaterial {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new AttestationError('malformed', `${name} is no object`);
  }
  const members = value as Record<string, unknown>;
  return {
    checksumFile: base64Member(members, 'checksum_file', name),
    measurement: base64Member(members, 'measurement', name),
  };
}

function base64Member(members: Record<string, unknown>, member: string, name: string): Uint8Array {
  const value = members[member];
  if (typeof value !== 'string' || value.length > MAX_DOCUMENT_CHARS) {
    throw new AttestationError('malformed', `${name}.${member} is no base64 text of a sensible size`);
  }
  return decoding(`${name}.${member}`, () => fromBase64(value));
}
