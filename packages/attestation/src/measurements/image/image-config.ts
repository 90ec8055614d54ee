import { fromBase64, fromHex } from '@dstack-cloud/encoding';
import { decoding } from '../../decoding.ts';
import { AttestationError } from '../../errors.ts';

const MAX_CONFIG_CHARS = 1024 * 1024;
const MAX_DOCUMENT_CHARS = 256 * 1024;

/** `{checksum_file, measurement}` of a vm_config, decoded (chapter 20 section 6.2). */
export interface MeasurementMaterial {
  readonly checksumFile: Uint8Array;
  readonly measurement: Uint8Array;
}

/** The members of a vm_config that say which OS image is meant (chapter 20 section 7.1). */
export interface ImageConfig {
  /** 32 bytes. */
  readonly osImageHash: Uint8Array;
  readonly members: Readonly<Record<string, unknown>>;
}

/**
 * Reads a vm_config text for the image check.
 * @throws AttestationError `image` when the text is empty or names no image: nothing then says what is measured
 */
export function readImageConfig(text: string): ImageConfig {
  if (text.length > MAX_CONFIG_CHARS) {
    throw new AttestationError('too-large', `Configuration of ${text.length} characters`);
  }
  const members = readJsonObject(text, 'vm_config');
  const value = members['os_image_hash'];
  if (typeof value !== 'string' || value === '') {
    throw new AttestationError('image', 'The configuration names no OS image: os_image_hash is missing');
  }
  const osImageHash = decoding('os_image_hash', () => fromHex(value, { length: 32, prefix: 'allow' }));
  return { osImageHash, members };
}

/**
 * A member of the form `{checksum_file, measurement}`, both base64; other members are refused.
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

/** A JSON object from text. @throws AttestationError `malformed`; `image` for empty text */
export function readJsonObject(text: string, what: string): Record<string, unknown> {
  if (text.trim() === '')
    throw new AttestationError('image', `${what} is empty: nothing says which image is measured`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new AttestationError('malformed', `${what} is not JSON`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new AttestationError('malformed', `${what} is no JSON object`);
  }
  return value as Record<string, unknown>;
}

function base64Member(members: Record<string, unknown>, member: string, name: string): Uint8Array {
  const value = members[member];
  if (typeof value !== 'string' || value.length > MAX_DOCUMENT_CHARS) {
    throw new AttestationError('malformed', `${name}.${member} is no base64 text of a sensible size`);
  }
  return decoding(`${name}.${member}`, () => fromBase64(value));
}
