import { type CollateralSource, staticCollateral, vendorRoots, withTdxRoot } from '@dstack-cloud/attestation';
import { decodePem, fromHex, toHex } from '@dstack-cloud/encoding';
import type { SimulatedPlatform } from '@dstack-cloud/tee-simulator';
import { fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import type { Trust } from '../evidence/trust.ts';

/** Body as the recordings hold it. */
export type RecordedBody = { utf8?: string; hex?: string; note?: string } | null;

export type RecordedCase = {
  readonly name: string;
  readonly client: string;
  readonly request: { method: string; path: string; headers: [string, string][] | []; body: RecordedBody };
  readonly status: string;
  readonly headers: [string, string][];
  readonly response: RecordedBody;
  readonly webhook: { method: string; url: string; body: string }[];
};

export type Transcript = { cases: RecordedCase[]; onboard: RecordedCase[]; vm_config: string };

export function bytesOf(body: RecordedBody): Uint8Array {
  if (body?.hex !== undefined) return fromHex(body.hex);
  return new TextEncoder().encode(body?.utf8 ?? '');
}

/** Trusts the recording's test root, and a simulated platform whose evidence the KMS shows for itself. */
export function trustWith(platform: SimulatedPlatform, now: number): Trust {
  const recordedRoot = decodePem(fixtureText('kms-original/tdx-test-root.pem'), 'CERTIFICATE');
  const recorded = staticCollateral(fixtureJson('kms-original/collateral.json'));
  const own = platform.collateralSource(() => now);
  const collateral: CollateralSource = {
    tdx: (request) => (request.fmspc === toHex(platform.fmspc) ? own : recorded).tdx(request),
  };
  const roots = withTdxRoot(withTdxRoot(vendorRoots(), recordedRoot), platform.rootDer);
  return { roots, collateral, simulated: true };
}
