import { concatBytes, decodeCbor, EncodingError, encodeCbor } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import { type NsmTransport, nsmTransport } from './nsm-transport.ts';

const DEFAULT_TIMEOUT_MS = 10_000;
const MAX_DATA = 512;
const MAX_PUBLIC_KEY = 1024;
/** A map of one, and of three entries (RFC 8949 section 3.1). */
const MAP_1 = Uint8Array.of(0xa1);
const MAP_3 = Uint8Array.of(0xa3);

export interface NsmDescription {
  readonly moduleId: string;
  readonly maxPcrs: number;
  readonly lockedPcrs: readonly number[];
  readonly digest: string;
}

/** What goes into an attestation document besides the module's own facts. */
export interface NsmAttestationInput {
  /** At most 512 bytes. */
  readonly userData?: Uint8Array;
  /** At most 512 bytes. */
  readonly nonce?: Uint8Array;
  /** At most 1024 bytes. */
  readonly publicKey?: Uint8Array;
}

/**
 * The Nitro security module of an enclave (docs/protocol/evidence.md section 12.5). All methods throw AttestationError
 * `device`.
 */
export class Nsm {
  readonly #transport: NsmTransport;

  constructor(location: string, timeoutMs: number = DEFAULT_TIMEOUT_MS) {
    this.#transport = nsmTransport(location, timeoutMs);
  }

  /** A signed document: the bare COSE_Sign1. */
  async attestation(input: NsmAttestationInput): Promise<Uint8Array> {
    const answer = await this.#request('Attestation', nsmAttestationRequest(input));
    return bytes(field(answer, 'document'), 'document');
  }

  async describe(): Promise<NsmDescription> {
    const answer = await this.#request('DescribeNSM', encodeCbor('DescribeNSM'));
    return {
      moduleId: text(field(answer, 'module_id'), 'module_id'),
      maxPcrs: number(field(answer, 'max_pcrs'), 'max_pcrs'),
      lockedPcrs: list(field(answer, 'locked_pcrs')).map((index) => number(index, 'locked_pcrs')),
      digest: text(field(answer, 'digest'), 'digest'),
    };
  }

  async describePcr(index: number): Promise<{ locked: boolean; value: Uint8Array }> {
    const answer = await this.#request('DescribePCR', encodeCbor({ DescribePCR: { index } }));
    return { locked: field(answer, 'lock') === true, value: bytes(field(answer, 'data'), 'data') };
  }

  /** PCR = SHA384(PCR ‖ data); gives the new value. */
  async extendPcr(index: number, data: Uint8Array): Promise<Uint8Array> {
    const answer = await this.#request('ExtendPCR', encodeCbor({ ExtendPCR: { index, data } }));
    return bytes(field(answer, 'data'), 'data');
  }

  /** No extension of this PCR any more. */
  async lockPcr(index: number): Promise<void> {
    await this.#request('LockPCR', encodeCbor({ LockPCR: { index } }));
  }

  /** No extension of the PCRs below `range` any more. */
  async lockPcrs(range: number): Promise<void> {
    await this.#request('LockPCRs', encodeCbor({ LockPCRs: { range } }));
  }

  /** Up to 256 random bytes, as many as the module gives. */
  async random(): Promise<Uint8Array> {
    const answer = await this.#request('GetRandom', encodeCbor('GetRandom'));
    return bytes(field(answer, 'random'), 'random');
  }

  /** The answer of that name: its map of values, or undefined where the answer is the name alone. */
  async #request(name: string, request: Uint8Array): Promise<unknown> {
    let response: unknown;
    try {
      response = decodeCbor(await this.#transport.exchange(request), { indefinite: true });
    } catch (cause) {
      if (!(cause instanceof EncodingError)) throw cause;
      throw new AttestationError('device', `The NSM's answer to ${name} is malformed`, { cause });
    }
    if (response === name) return undefined;
    const error = response instanceof Map ? (response.get('Error') as unknown) : undefined;
    if (error !== undefined) {
      throw new AttestationError('device', `The NSM refused ${name}`, { found: String(error).slice(0, 64) });
    }
    const answer =
      response instanceof Map && response.size === 1 ? (response.get(name) as unknown) : undefined;
    if (answer === undefined)
      throw new AttestationError('device', `The NSM answered ${name} with something else`);
    return answer;
  }
}

/** The request's bytes, with the members in the order of AWS's own library. */
export function nsmAttestationRequest({ userData, nonce, publicKey }: NsmAttestationInput): Uint8Array {
  bounded(userData, 'user_data', MAX_DATA);
  bounded(nonce, 'nonce', MAX_DATA);
  bounded(publicKey, 'public_key', MAX_PUBLIC_KEY);
  return concatBytes(
    MAP_1,
    encodeCbor('Attestation'),
    MAP_3,
    ...[encodeCbor('user_data'), encodeCbor(userData ?? null)],
    ...[encodeCbor('nonce'), encodeCbor(nonce ?? null)],
    ...[encodeCbor('public_key'), encodeCbor(publicKey ?? null)],
  );
}

function bounded(value: Uint8Array | undefined, name: string, max: number): void {
  if (value && value.length > max) {
    throw new AttestationError('too-large', `${name} of ${value.length} bytes; the NSM takes ${max}`);
  }
}

function field(answer: unknown, name: string): unknown {
  return answer instanceof Map ? (answer.get(name) as unknown) : undefined;
}

function bytes(value: unknown, name: string): Uint8Array {
  if (value instanceof Uint8Array) return value.slice();
  throw new AttestationError('device', `The NSM gave no bytes for ${name}`);
}

function text(value: unknown, name: string): string {
  if (typeof value === 'string') return value;
  throw new AttestationError('device', `The NSM gave no text for ${name}`);
}

function number(value: unknown, name: string): number {
  if (typeof value === 'number') return value;
  throw new AttestationError('device', `The NSM gave no number for ${name}`);
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
