import { createECDH, createPrivateKey, createPublicKey, type KeyObject, randomBytes } from 'node:crypto';
import { concatBytes, decodePem, encodePem, equalConstantTime, fromHex } from '@dstack-cloud/encoding';
import { expectLength, KeysError } from './errors.ts';

/** Order of the P-256 group, SEC 2 section 2.4.2. */
const ORDER = fromHex('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551');
const SPKI_PREFIX = fromHex('3059301306072a8648ce3d020106082a8648ce3d030107034200');
const PKCS8_PREFIX = fromHex('308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420');
const PKCS8_MIDDLE = fromHex('a144034200');

/** A P-256 key pair in every form that is needed; `KeyObject`s are imported on first use and kept. */
export interface P256Key {
  /** 32 bytes, big endian. */
  readonly scalar: Uint8Array;
  /** `04 || X || Y`, 65 bytes. */
  readonly publicPoint: Uint8Array;
  /** DER SubjectPublicKeyInfo, 91 bytes. */
  readonly spki: Uint8Array;
  /** DER PKCS#8 in the one layout of docs/protocol/keys.md section 2.2: 138 bytes. */
  readonly pkcs8: Uint8Array;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

class LazyP256Key implements P256Key {
  readonly scalar: Uint8Array;
  readonly publicPoint: Uint8Array;
  readonly spki: Uint8Array;
  #privateKey: KeyObject | undefined;
  #publicKey: KeyObject | undefined;

  constructor(scalar: Uint8Array, publicPoint: Uint8Array) {
    this.scalar = scalar;
    this.publicPoint = publicPoint;
    this.spki = concatBytes(SPKI_PREFIX, publicPoint);
  }

  get pkcs8(): Uint8Array {
    return concatBytes(PKCS8_PREFIX, this.scalar, PKCS8_MIDDLE, this.publicPoint);
  }

  get privateKey(): KeyObject {
    this.#privateKey ??= createPrivateKey({ key: Buffer.from(this.pkcs8), format: 'der', type: 'pkcs8' });
    return this.#privateKey;
  }

  get publicKey(): KeyObject {
    this.#publicKey ??= createPublicKey({ key: Buffer.from(this.spki), format: 'der', type: 'spki' });
    return this.#publicKey;
  }
}

/** The key pair of a 32-byte big-endian scalar. @throws KeysError when it is 0 or not below the group order */
export function p256KeyFromScalar(scalar: Uint8Array): P256Key {
  expectLength('P-256 scalar', scalar, 32);
  if (!isP256Scalar(scalar)) throw new KeysError('invalid-key', 'P-256 scalar is out of range');
  const ecdh = createECDH('prime256v1');
  ecdh.setPrivateKey(scalar);
  return new LazyP256Key(scalar.slice(), new Uint8Array(ecdh.getPublicKey()));
}

/** True when the number is between 1 and the group order less 1. */
export function isP256Scalar(scalar: Uint8Array): boolean {
  return scalar.some((byte) => byte !== 0) && Buffer.compare(scalar, ORDER) < 0;
}

/** A new key pair from the system's random source. */
export function generateP256Key(): P256Key {
  let scalar = new Uint8Array(randomBytes(32));
  // A number out of range comes once in 2^32 draws.
  while (!isP256Scalar(scalar)) scalar = new Uint8Array(randomBytes(32));
  return p256KeyFromScalar(scalar);
}

/** Reads a PKCS#8 PEM key. @throws KeysError unless it is one P-256 key whose public part, if given, fits */
export function p256KeyFromPem(pem: string): P256Key {
  let der: Uint8Array;
  let scalar: Uint8Array;
  try {
    der = decodePem(pem, 'PRIVATE KEY');
    const key = createPrivateKey({ key: Buffer.from(der), format: 'der', type: 'pkcs8' });
    const jwk = key.export({ format: 'jwk' });
    if (jwk.crv !== 'P-256' || !jwk.d) throw new KeysError('invalid-key', 'The key is not on P-256');
    scalar = new Uint8Array(Buffer.from(jwk.d, 'base64url'));
    const found = p256KeyFromScalar(scalar);
    const point = Buffer.concat([
      Buffer.of(4),
      Buffer.from(jwk.x!, 'base64url'),
      Buffer.from(jwk.y!, 'base64url'),
    ]);
    if (!equalConstantTime(found.publicPoint, point)) {
      throw new KeysError('invalid-key', 'The public part of the key does not belong to its private part');
    }
    return found;
  } catch (cause) {
    if (cause instanceof KeysError) throw cause;
    throw new KeysError('invalid-key', 'Not a PKCS#8 PEM key on P-256', { cause });
  }
}

/** Writes PKCS#8 PEM: label `PRIVATE KEY`, 64 columns, LF. */
export function p256KeyPem(key: P256Key): string {
  return encodePem('PRIVATE KEY', key.pkcs8);
}
