import {
  type Attestation,
  AttestationError,
  attestationFromQuote,
  decodeAttestation,
} from '@dstack-cloud/attestation';
import { bytesFromText, EncodingError, fromHex, utf8Text } from '@dstack-cloud/encoding';
import { HttpError } from './http-error.ts';

/** Body of POST /verify; absent and null members mean the same. */
export interface VerifyRequest {
  readonly quote: Uint8Array | undefined;
  readonly eventLog: string | undefined;
  readonly vmConfig: string | undefined;
  readonly attestation: Uint8Array | undefined;
}

/** Evidence of a request. */
export interface RequestEvidence {
  readonly attestation: Attestation;
  readonly vmConfig: string | undefined;
}

/** A request whose evidence cannot be read: the original answers it with 200 and these texts. */
export class UndecodableRequest extends Error {
  readonly code: string;

  constructor(message: string, code: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'UndecodableRequest';
    this.code = code;
  }
}

/**
 * Reads the JSON of a request; unknown members are ignored, as the original does.
 * @throws HttpError 400 for what is not JSON, 422 for members of other types and bad hex
 */
export function parseVerifyRequest(json: Uint8Array): VerifyRequest {
  let value: unknown;
  try {
    value = JSON.parse(utf8Text(json));
  } catch {
    throw new HttpError(400, 'not-json', 'The body is not JSON');
  }
  if (typeof value !== 'object' || value === null) {
    throw new HttpError(422, 'wrong-type', 'The body is no JSON object');
  }
  const body = (Array.isArray(value) ? fromArray(value) : value) as Readonly<Record<string, unknown>>;
  const { debug } = body;
  if (debug !== undefined && debug !== null && typeof debug !== 'boolean') {
    throw new HttpError(422, 'wrong-type', 'debug is no boolean');
  }
  return {
    quote: bytes(body, 'quote'),
    eventLog: textMember(body, 'event_log'),
    vmConfig: textMember(body, 'vm_config'),
    attestation: bytes(body, 'attestation'),
  };
}

/** `attestation` wins; without it quote and event log must be there. @throws UndecodableRequest */
export function requestEvidence(request: VerifyRequest): RequestEvidence {
  const { quote, eventLog, vmConfig, attestation } = request;
  if (attestation) {
    return {
      // The original's spelling; clients match on it.
      attestation: readable('Failed to decode attestaion', () => decodeAttestation(attestation)),
      vmConfig: undefined,
    };
  }
  if (!quote) throw new UndecodableRequest('Quote is required', 'malformed');
  if (eventLog === undefined) throw new UndecodableRequest('Event log is required', 'malformed');
  return {
    attestation: readable('Failed to create attestation', () => attestationFromQuote(quote, eventLog)),
    vmConfig,
  };
}

function readable<T>(message: string, run: () => T): T {
  try {
    return run();
  } catch (cause) {
    if (!(cause instanceof AttestationError)) throw cause;
    throw new UndecodableRequest(message, cause.code, { cause });
  }
}

/** The original's decoder takes an array of the members in order, too. */
function fromArray(items: readonly unknown[]): Record<string, unknown> {
  const [quote, event_log, vm_config, attestation, debug] = items;
  return { quote, event_log, vm_config, attestation, debug };
}

function textMember(body: Readonly<Record<string, unknown>>, name: string): string | undefined {
  const value = body[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') throw new HttpError(422, 'wrong-type', `${name} is no text`);
  return value;
}

function bytes(body: Readonly<Record<string, unknown>>, name: string): Uint8Array | undefined {
  const value = textMember(body, name);
  if (value === undefined) return undefined;
  try {
    // Hex as the original reads it, without a prefix; base64, which the original does not know, besides.
    if (/^[0-9a-fA-F]*$/.test(value) || /^0x/i.test(value)) return fromHex(value);
    return bytesFromText(value).bytes;
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw new HttpError(422, 'wrong-hex', `${name} is neither hex nor base64`);
  }
}
