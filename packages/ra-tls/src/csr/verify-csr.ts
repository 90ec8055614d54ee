import { createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import {
  type Attestation,
  AttestationError,
  attestationFromQuote,
  decodeAttestation,
} from '@dstack-cloud/attestation';
import { DerReader, derTag, EncodingError, readDer, utf8Text } from '@dstack-cloud/encoding';
import type { P256Key } from '@dstack-cloud/keys';
import { messageOf, RaTlsError } from '../errors.ts';
import { CONFIRM_WORD, type CsrConfig, decodeCsrV1, decodeCsrV2, MAX_CSR_BYTES } from './csr.ts';

const PARSING = 'Failed to parse csr';
const UPGRADING = 'Failed to upgrade csr v1 to v2: Failed to parse tdx_event_log';

/** A request whose holder proved to have the private key. The evidence has not even been read. */
export interface VerifiedCsr {
  /** DER SubjectPublicKeyInfo, P-256, 91 bytes. */
  readonly pubkey: Uint8Array;
  readonly config: CsrConfig;
  /** Reads the evidence, which costs more than all the rest. @throws RaTlsError `csr-malformed` */
  readonly readEvidence: () => Attestation;
}

/** ECDSA P-256 with SHA-256 over the encoded request, DER. */
export function signCsr(csr: Uint8Array, key: P256Key): Uint8Array {
  return new Uint8Array(sign('sha256', csr, key.privateKey));
}

/**
 * Reads a request of format 1 or 2 up to its evidence and checks its size, key, signature and confirm word, in this
 * order. The signature is checked over the bytes as received.
 * @param apiVersion 1 or 2
 * @throws RaTlsError with the contexts and texts of the original
 */
export function verifyCsr(apiVersion: number, csr: Uint8Array, signature: Uint8Array): VerifiedCsr {
  if (apiVersion !== 1 && apiVersion !== 2) {
    throw new RaTlsError('csr-malformed', `Unsupported API version: ${apiVersion}`);
  }
  if (csr.length > MAX_CSR_BYTES) {
    throw new RaTlsError('csr-malformed', `Failed to parse csr: more than ${MAX_CSR_BYTES} bytes`);
  }
  return apiVersion === 2 ? verifyV2(csr, signature) : verifyV1(csr, signature);
}

function verifyV2(csr: Uint8Array, signature: Uint8Array): VerifiedCsr {
  const head = inContext(PARSING, () => decodeCsrV2(csr));
  checkProof(head.confirm, head.pubkey, csr, signature);
  return {
    pubkey: head.pubkey,
    config: head.config,
    readEvidence: () => inContext(PARSING, () => decodeAttestation(head.evidence)),
  };
}

function verifyV1(csr: Uint8Array, signature: Uint8Array): VerifiedCsr {
  const head = inContext(PARSING, () => decodeCsrV1(csr));
  checkProof(head.confirm, head.pubkey, csr, signature);
  return {
    pubkey: head.pubkey,
    config: head.config,
    readEvidence: () => inContext(UPGRADING, () => attestationFromQuote(head.quote, utf8Text(head.eventLog))),
  };
}

function checkProof(confirm: string, pubkey: Uint8Array, csr: Uint8Array, signature: Uint8Array): void {
  const key = publicKey(pubkey);
  let genuine = false;
  try {
    // The DER form is checked first: OpenSSL also takes other encodings of the same numbers.
    const numbers = new DerReader(readDer(signature).contents);
    numbers.next(derTag.integer);
    numbers.next(derTag.integer);
    numbers.finish();
    genuine = verify('sha256', csr, key, signature);
  } catch (error) {
    if (!(error instanceof EncodingError)) throw refused('Invalid signature', error);
  }
  if (!genuine) throw refused('Invalid signature');
  if (confirm !== CONFIRM_WORD) throw refused('Invalid confirm word');
}

function publicKey(spki: Uint8Array): KeyObject {
  let key: KeyObject;
  try {
    key = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
  } catch (cause) {
    throw refused('Failed to parse pubkey', cause);
  }
  const isP256 = key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1';
  // 91 bytes: the uncompressed point, in which the binding and the derived serial are defined.
  if (!isP256 || spki.length !== 91) throw refused('Unsupported algorithm');
  return key;
}

function refused(reason: string, cause?: unknown): RaTlsError {
  return new RaTlsError('csr-invalid', `Failed to verify csr signature: ${reason}`, { cause });
}

function inContext<T>(context: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof EncodingError) && !(cause instanceof AttestationError)) throw cause;
    throw new RaTlsError('csr-malformed', `${context}: ${messageOf(cause)}`, { cause });
  }
}
