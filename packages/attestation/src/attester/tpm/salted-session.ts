import {
  constants,
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPublicKey,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';
import {
  ByteReader,
  ByteWriter,
  concatBytes,
  equalConstantTime,
  toBase64Url,
  utf8,
} from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import type { Tpm } from './tpm.ts';
import { ALG, HANDLE } from './tpm-constants.ts';
import type { LoadedObject } from './tpm-keys.ts';
import type { Authorisation, AuthorisedCommand } from './tpm-session.ts';
import { take2b, tpm2b } from './tpm-structures.ts';

const HASH_BYTES = 32;
const AES_BYTES = 16;
const SESSION = { hmac: 0x00, policy: 0x01 } as const;
const CONTINUE = 0x01;
const DECRYPT = 0x20;
const ENCRYPT = 0x40;

/**
 * A session whose key only the TPM that holds `key` can know: it signs commands, checks the signature on responses,
 * and encrypts the first parameter. Whoever sits on the bus sees neither a sealed secret nor an unsealed one. This is
 * only as good as the trust in `key`, which a TPM alone cannot give.
 */
export class SaltedSession implements Authorisation {
  readonly handle: number;
  readonly #sessionKey: Uint8Array;
  readonly #attributes: number;
  #nonceTpm: Uint8Array;
  #nonceCaller: Uint8Array = new Uint8Array();

  private constructor(handle: number, sessionKey: Uint8Array, nonceTpm: Uint8Array, attributes: number) {
    this.handle = handle;
    this.#sessionKey = sessionKey;
    this.#nonceTpm = nonceTpm;
    this.#attributes = attributes;
  }

  /**
   * Starts a session salted to an RSA storage key; it is flushed at the end.
   * @param use `policy` authorises by policy and gets responses encrypted, `encrypt-command` encrypts what is sent
   */
  static async start(
    tpm: Tpm,
    key: Pick<LoadedObject, 'handle' | 'publicArea'>,
    use: 'policy' | 'encrypt-command',
  ): Promise<SaltedSession> {
    const salt = new Uint8Array(randomBytes(HASH_BYTES));
    const nonceCaller = new Uint8Array(randomBytes(HASH_BYTES));
    const { handle, parameters } = await tpm.execute({
      code: 'startAuthSession',
      handles: [key.handle, HANDLE.null],
      parameters: new ByteWriter()
        .bytes(tpm2b(nonceCaller))
        .bytes(tpm2b(encryptSalt(key.publicArea, salt)))
        .u8(use === 'policy' ? SESSION.policy : SESSION.hmac)
        .u16be(ALG.aes)
        .u16be(8 * AES_BYTES)
        .u16be(ALG.cfb)
        .u16be(ALG.sha256)
        .finish(),
      returnsHandle: true,
    });
    tpm.track(handle);
    const nonceTpm = take2b(parameters).slice();
    parameters.finish();
    const sessionKey = kdfa(salt, 'ATH', nonceTpm, nonceCaller, HASH_BYTES);
    return new SaltedSession(handle, sessionKey, nonceTpm, CONTINUE | (use === 'policy' ? ENCRYPT : DECRYPT));
  }

  prepare(parameters: Uint8Array): Uint8Array {
    this.#nonceCaller = new Uint8Array(randomBytes(HASH_BYTES));
    if ((this.#attributes & DECRYPT) === 0) return parameters;
    const { first, rest } = splitFirst(parameters);
    const { key, iv } = this.#cipherKey(this.#nonceCaller, this.#nonceTpm);
    const cipher = createCipheriv('aes-128-cfb', key, iv);
    return concatBytes(tpm2b(new Uint8Array(Buffer.concat([cipher.update(first), cipher.final()]))), rest);
  }

  request(command: AuthorisedCommand): { nonce: Uint8Array; attributes: number; hmac: Uint8Array } {
    const code = new ByteWriter().u32be(command.code).finish();
    const cpHash = sha256(code, ...command.names, command.parameters);
    const attributes = this.#attributes;
    return {
      nonce: this.#nonceCaller,
      attributes,
      hmac: hmac(this.#sessionKey, cpHash, this.#nonceCaller, this.#nonceTpm, Uint8Array.of(attributes)),
    };
  }

  response(
    command: AuthorisedCommand,
    parameters: Uint8Array,
    area: { nonce: Uint8Array; attributes: number; hmac: Uint8Array },
  ): Uint8Array {
    const rpHash = sha256(new ByteWriter().u32be(0).u32be(command.code).finish(), parameters);
    const attributes = Uint8Array.of(area.attributes);
    const expected = hmac(this.#sessionKey, rpHash, area.nonce, this.#nonceCaller, attributes);
    if (!equalConstantTime(expected, area.hmac)) {
      throw new AttestationError('device', 'A response of the TPM is not signed with the session key');
    }
    this.#nonceTpm = area.nonce.slice();
    if ((this.#attributes & ENCRYPT) === 0) return parameters;
    const { first, rest } = splitFirst(parameters);
    const { key, iv } = this.#cipherKey(this.#nonceTpm, this.#nonceCaller);
    const cipher = createDecipheriv('aes-128-cfb', key, iv);
    return concatBytes(tpm2b(new Uint8Array(Buffer.concat([cipher.update(first), cipher.final()]))), rest);
  }

  /** Part 1 section 21.3. */
  #cipherKey(newer: Uint8Array, older: Uint8Array): { key: Uint8Array; iv: Uint8Array } {
    const bytes = kdfa(this.#sessionKey, 'CFB', newer, older, 2 * AES_BYTES);
    return { key: bytes.subarray(0, AES_BYTES), iv: bytes.subarray(AES_BYTES) };
  }
}

function splitFirst(parameters: Uint8Array): { first: Uint8Array; rest: Uint8Array } {
  const reader = new ByteReader(parameters);
  return { first: take2b(reader), rest: reader.rest() };
}

/** KDFa with HMAC-SHA256 (Part 1 section 11.4.10.2). */
function kdfa(
  key: Uint8Array,
  label: string,
  contextU: Uint8Array,
  contextV: Uint8Array,
  bytes: number,
): Uint8Array {
  const bits = new ByteWriter().u32be(8 * bytes).finish();
  const blocks = Array.from({ length: Math.ceil(bytes / HASH_BYTES) }, (_, i) =>
    hmac(key, new ByteWriter().u32be(i + 1).finish(), utf8(`${label}\0`), contextU, contextV, bits),
  );
  return concatBytes(...blocks).subarray(0, bytes);
}

/** RSAES-OAEP with the label SECRET (Part 1 section B.4). */
function encryptSalt(publicArea: Uint8Array, salt: Uint8Array): Uint8Array {
  const { modulus, exponent } = rsaPublic(publicArea);
  const jwk = { kty: 'RSA', n: toBase64Url(modulus), e: toBase64Url(exponent) };
  const key = createPublicKey({ key: jwk, format: 'jwk' });
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  const oaepLabel = utf8('SECRET\0');
  return new Uint8Array(publicEncrypt({ key, padding, oaepHash: 'sha256', oaepLabel }, salt));
}

/** Modulus and exponent of a TPMT_PUBLIC of an RSA storage key. */
function rsaPublic(publicArea: Uint8Array): { modulus: Uint8Array; exponent: Uint8Array } {
  const reader = new ByteReader(publicArea);
  reader.take(8); // type, name algorithm, attributes
  take2b(reader); // policy
  reader.take(10); // symmetric algorithm, bits and mode, scheme, key bits
  const exponent = reader.u32be() || 65_537;
  const modulus = take2b(reader);
  reader.finish();
  return {
    modulus,
    exponent: Uint8Array.of(exponent >>> 24, exponent >>> 16, exponent >>> 8, exponent),
  };
}

function sha256(...parts: Uint8Array[]): Uint8Array {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}

function hmac(key: Uint8Array, ...parts: Uint8Array[]): Uint8Array {
  const mac = createHmac('sha256', key);
  for (const part of parts) mac.update(part);
  return new Uint8Array(mac.digest());
}
