/**
 * The mock evidence as tests use it: its roots, collateral and cases, and the keys of its public seed, so that
 * evidence can be changed in one rule and signed again.
 */

import { createECDH, createHash, createPrivateKey, type KeyObject, sign } from 'node:crypto';
import { concatBytes, decodePem, fromHex, utf8 } from '@dstack-cloud/encoding';
import { fixture, fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import type { Attestation } from '../attestation.ts';
import { decodeAttestation } from '../codec/decode-attestation.ts';
import type { CollateralSource } from '../collateral-source.ts';
import { tpmCollateralFromJson } from '../gcp-tdx/tpm-collateral-json.ts';
import { verifyOsImage } from '../measurements/image/verify-os-image.ts';
import { type RootName, replaceRoot } from '../roots/replace-root.ts';
import type { TrustRoots } from '../roots/trust-roots.ts';
import { vendorRoots } from '../roots/vendor-roots.ts';
import { dcapCollateralFromJson } from '../tdx/collateral-json.ts';
import { verifyAttestation } from '../verify.ts';
import type { VerifiedAttestation } from '../verify-context.ts';

export const MOCK = 'mock-evidence';
/** Time at which every case without a rule about time is good. */
const MOCK_NOW = 1781524800;

interface MockSet {
  readonly seed: string;
  readonly roots: Readonly<Record<string, string>>;
}

function mockSet(): MockSet {
  return fixtureJson<{ sets: { A: MockSet } }>(`${MOCK}/expected.json`).sets.A;
}

/** The vendors' roots, each replaced by the set's. */
function mockRoots(): TrustRoots {
  return Object.entries(mockSet().roots).reduce(
    (all, [name, path]) =>
      replaceRoot(all, name as RootName, decodePem(fixtureText(`${MOCK}/${path}`), 'CERTIFICATE')),
    vendorRoots(),
  );
}

function mockCollateral(): CollateralSource {
  const json = (name: string) => fixtureJson<unknown>(`${MOCK}/set-a/collateral/${name}.json`);
  return {
    tdx: async () => dcapCollateralFromJson(json('tdx-base')),
    tpm: async () => tpmCollateralFromJson(json('tpm-base')),
  };
}

/** The quote of one mode. */
export type QuoteOf<M extends Attestation['quote']['mode']> = Extract<Attestation['quote'], { mode: M }>;

/** A case of the set, with its quote as that of its mode. */
export function loadMock<M extends Attestation['quote']['mode']>(
  id: string,
  _mode: M,
): [Attestation, QuoteOf<M>] {
  const attestation = decodeAttestation(fixture(`${MOCK}/set-a/evidence/${id}.v0.bin`));
  return [attestation, attestation.quote as QuoteOf<M>];
}

/** Verifies evidence of the set and its image, with another quote or configuration. */
export async function verifyMock(
  attestation: Attestation,
  quote: Attestation['quote'],
  config: string = attestation.config,
): Promise<VerifiedAttestation> {
  const verified = await verifyAttestation(
    { ...attestation, quote, config },
    {
      roots: mockRoots(),
      collateral: mockCollateral(),
      now: MOCK_NOW,
      platform: { gcpFirmwareEndorsement: false },
    },
  );
  await verifyOsImage(verified);
  return verified;
}

/**
 * ECDSA by a key of the set: SHA-2 of domain, seed, label and counter, counted up to a valid scalar.
 * @returns r‖s
 */
export function signMock(curve: 'p256' | 'p384', label: string, data: Uint8Array): Uint8Array {
  const hash = curve === 'p256' ? 'sha256' : 'sha384';
  const signature = sign(hash, data, { key: mockKey(curve, hash, label), dsaEncoding: 'ieee-p1363' });
  return new Uint8Array(signature);
}

function mockKey(curve: 'p256' | 'p384', hash: string, label: string): KeyObject {
  const start = concatBytes(utf8(`dstack-mock-${curve}-v1`), fromHex(mockSet().seed), utf8(label));
  for (let counter = 0; counter < 100; counter++) {
    const scalar = createHash(hash)
      .update(start)
      .update(Uint8Array.of(0, 0, 0, counter))
      .digest();
    const ecdh = createECDH(curve === 'p256' ? 'prime256v1' : 'secp384r1');
    try {
      ecdh.setPrivateKey(scalar);
    } catch {
      continue;
    }
    const point = ecdh.getPublicKey();
    const half = (point.length - 1) / 2;
    const jwk = {
      kty: 'EC',
      crv: curve === 'p256' ? 'P-256' : 'P-384',
      d: scalar.toString('base64url'),
      x: point.subarray(1, 1 + half).toString('base64url'),
      y: point.subarray(1 + half).toString('base64url'),
    };
    return createPrivateKey({ key: jwk, format: 'jwk' });
  }
  throw new Error('no valid scalar');
}
