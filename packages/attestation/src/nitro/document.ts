import { decodeCbor } from '@dstack-cloud/encoding';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';

/** AWS, "Verifying the root of trust", section "Verifying the attestation document": sizes. */
const MAX_CERTIFICATE_BYTES = 1024;
const MAX_DATA_BYTES = 512;
const MAX_PUBLIC_KEY_BYTES = 1024;
const MAX_CABUNDLE = 8;
const MAX_PCR_INDEX = 31;
/** SHA-384 is the only digest that NSM uses; AWS would allow 32, 48 or 64 bytes. */
const PCR_BYTES = 48;
const MAX_MODULE_ID_CHARS = 256;

/** An NSM or NitroTPM attestation document (docs/protocol/evidence.md section 10). */
export interface NitroDocument {
  readonly moduleId: string;
  /** Milliseconds. */
  readonly timestamp: number;
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  /** DER of the leaf. */
  readonly certificate: Uint8Array;
  /** DER: root first. */
  readonly cabundle: readonly Uint8Array[];
  readonly publicKey: Uint8Array | undefined;
  readonly userData: Uint8Array | undefined;
  readonly nonce: Uint8Array | undefined;
}

/**
 * Reads a document's payload with the rules that AWS gives for it, of which the original checks none
 * (docs/protocol/verification.md section 5 step 1).
 * @param kind NitroTPM documents may keep their PCRs under `nitrotpm_pcrs`
 * @throws AttestationError `malformed`, `unsupported`
 */
export function parseNitroDocument(payload: Uint8Array, kind: 'nsm' | 'nitro-tpm'): NitroDocument {
  const map = decoding('Attestation document', () => decodeCbor(payload, { indefinite: true }));
  if (!(map instanceof Map)) throw malformed('is no map');
  const digest: unknown = map.get('digest');
  if (digest !== 'SHA384') {
    throw new AttestationError('unsupported', 'Attestation document with another digest than SHA384', {
      expected: 'SHA384',
      found: String(digest).slice(0, 32),
    });
  }
  return {
    moduleId: moduleId(map.get('module_id')),
    timestamp: timestamp(map.get('timestamp')),
    pcrs: pcrs(pcrMap(map, kind)),
    certificate: sized(map.get('certificate'), 'certificate', 1, MAX_CERTIFICATE_BYTES),
    cabundle: cabundle(map.get('cabundle')),
    publicKey: optional(map.get('public_key'), 'public_key', 1, MAX_PUBLIC_KEY_BYTES),
    userData: optional(map.get('user_data'), 'user_data', 0, MAX_DATA_BYTES),
    nonce: optional(map.get('nonce'), 'nonce', 0, MAX_DATA_BYTES),
  };
}

function moduleId(value: unknown): string {
  if (typeof value !== 'string' || value.length === 0 || value.length > MAX_MODULE_ID_CHARS) {
    throw malformed('has no module_id');
  }
  return value;
}

function timestamp(value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value <= 0) {
    throw malformed('has no positive timestamp');
  }
  return value;
}

function pcrMap(map: Map<unknown, unknown>, kind: 'nsm' | 'nitro-tpm'): unknown {
  if (kind === 'nsm') return map.get('pcrs');
  if (map.has('pcrs') && map.has('nitrotpm_pcrs')) throw malformed('has two sets of PCRs');
  return map.get('nitrotpm_pcrs') ?? map.get('pcrs');
}

function pcrs(value: unknown): ReadonlyMap<number, Uint8Array> {
  if (!(value instanceof Map) || value.size === 0) throw malformed('has no PCRs');
  const out = new Map<number, Uint8Array>();
  for (const [index, register] of value as Map<unknown, unknown>) {
    if (typeof index !== 'number' || !Number.isInteger(index) || index < 0 || index > MAX_PCR_INDEX) {
      throw malformed(`has a PCR with index ${String(index).slice(0, 32)}`);
    }
    out.set(index, sized(register, `PCR ${index}`, PCR_BYTES, PCR_BYTES));
  }
  return out;
}

function cabundle(value: unknown): Uint8Array[] {
  if (!Array.isArray(value) || value.length === 0) throw malformed('has no cabundle');
  if (value.length > MAX_CABUNDLE) {
    throw new AttestationError('too-large', `Attestation document with ${value.length} CA certificates`);
  }
  return value.map((entry: unknown) => sized(entry, 'cabundle', 1, MAX_CERTIFICATE_BYTES));
}

function optional(value: unknown, name: string, min: number, max: number): Uint8Array | undefined {
  return value === null || value === undefined ? undefined : sized(value, name, min, max);
}

/** Bytes of a bounded length; an array of integers counts as bytes, as the original's simulator writes it. */
function sized(value: unknown, name: string, min: number, max: number): Uint8Array {
  const bytes = byteArray(value, max);
  if (!bytes) throw malformed(`has no bytes where ${name} belongs`);
  if (bytes.length < min || bytes.length > max) {
    throw new AttestationError('malformed', `Attestation document whose ${name} has another length`, {
      expected: min === max ? String(min) : `${min} to ${max} bytes`,
      found: String(bytes.length),
    });
  }
  return bytes;
}

function byteArray(value: unknown, max: number): Uint8Array | undefined {
  if (value instanceof Uint8Array) return value;
  if (!Array.isArray(value)) return undefined;
  const numbers = value.slice(0, max + 1) as unknown[];
  const isByte = (item: unknown): boolean =>
    typeof item === 'number' && Number.isInteger(item) && item >= 0 && item <= 255;
  return numbers.every(isByte) ? Uint8Array.from(numbers as number[]) : undefined;
}

function malformed(what: string): AttestationError {
  return new AttestationError('malformed', `Attestation document ${what}`);
}
