/**
 * The mock evidence as tests use it: its roots, collateral and cases, and the keys of its public seed, so that
 * evidence can be changed in one rule and signed again.
 */

import { concatBytes, decodePem, fromHex, utf8 } from '@dstack-cloud/encoding';
import { fixture, fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import { p256, p384 } from '@noble/curves/nist.js';
import { sha256, sha384 } from '@noble/hashes/sha2.js';
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
export async function judgeMock(
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

/** A key of the set: SHA-2 of domain, seed, label and counter, counted up to a valid scalar. */
export function mockKey(curve: 'p256' | 'p384', label: string): Uint8Array {
  const hash = curve === 'p256' ? sha256 : sha384;
  const domain = utf8(`dstack-mock-${curve}-v1`);
  const { isValidSecretKey } = (curve === 'p256' ? p256 : p384).utils;
  const seed = fromHex(mockSet().seed);
  for (let counter = 0; counter < 100; counter++) {
    const scalar = hash(concatBytes(domain, seed, utf8(label), Uint8Array.of(0, 0, 0, counter)));
    if (isValidSecretKey(scalar)) return scalar;
  }
  throw new Error('no valid scalar');
}
