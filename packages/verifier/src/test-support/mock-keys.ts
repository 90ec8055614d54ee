import { createECDH, createHash, createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto';
import { compareBytes, concatBytes, fromHex, utf8 } from '@dstack-cloud/encoding';

/** A key of the mock evidence, derivable from a public test seed. It must never be trusted. */
export interface MockKey {
  readonly curve: 'P-256' | 'P-384';
  readonly privateKey: KeyObject;
  /** x‖y. */
  readonly point: Uint8Array;
  /** DER. */
  readonly spki: Uint8Array;
}

const CURVES = {
  'P-256': {
    name: 'prime256v1',
    hash: 'sha256',
    tag: 'dstack-mock-p256-v1',
    size: 32,
    order: 'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551',
  },
  'P-384': {
    name: 'secp384r1',
    hash: 'sha384',
    tag: 'dstack-mock-p384-v1',
    size: 48,
    order: 'ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973',
  },
} as const;

/** Keys of a seed by label, by the rule of the fixture's README; each is derived once. */
export function mockKeys(seed: Uint8Array): (label: string, curve?: MockKey['curve']) => MockKey {
  const known = new Map<string, MockKey>();
  return (label, curve = /^(sev|nsm)-/.test(label) ? 'P-384' : 'P-256') => {
    const key = known.get(label) ?? keyOf(scalarOf(seed, label, curve), curve);
    known.set(label, key);
    return key;
  };
}

/** ECDSA with the curve's own hash. */
export function signWith(
  key: MockKey,
  data: Uint8Array,
  dsaEncoding: 'der' | 'ieee-p1363' = 'ieee-p1363',
): Uint8Array {
  return new Uint8Array(sign(CURVES[key.curve].hash, data, { key: key.privateKey, dsaEncoding }));
}

function scalarOf(seed: Uint8Array, label: string, curve: MockKey['curve']): Uint8Array {
  const { hash, tag, order } = CURVES[curve];
  for (let counter = 0; counter < 16; counter++) {
    const input = concatBytes(utf8(tag), seed, utf8(label), Uint8Array.of(0, 0, 0, counter));
    const scalar = new Uint8Array(createHash(hash).update(input).digest());
    if (compareBytes(scalar, fromHex(order)) < 0) return scalar;
  }
  throw new Error(`no scalar for ${label}`);
}

function keyOf(scalar: Uint8Array, curve: MockKey['curve']): MockKey {
  const { name, size } = CURVES[curve];
  const ecdh = createECDH(name);
  ecdh.setPrivateKey(scalar);
  const point = new Uint8Array(ecdh.getPublicKey()).subarray(1);
  const part = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
  const privateKey = createPrivateKey({
    format: 'jwk',
    key: {
      kty: 'EC',
      crv: curve,
      d: part(scalar),
      x: part(point.subarray(0, size)),
      y: part(point.subarray(size)),
    },
  });
  const spki = new Uint8Array(createPublicKey(privateKey).export({ type: 'spki', format: 'der' }));
  return { curve, privateKey, point, spki };
}
