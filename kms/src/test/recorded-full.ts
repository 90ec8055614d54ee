import {
  type CollateralSource,
  pcsCollateral,
  type TrustRoots,
  vendorRoots,
  withTdxRoot,
} from '@dstack-cloud/attestation';
import { decodePem, fromHex, toHex } from '@dstack-cloud/encoding';
import { p256KeyFromScalar, p256KeyPem } from '@dstack-cloud/keys';
import type { SimulatedPlatform } from '@dstack-cloud/tee-simulator';
import { fixtureJson } from '@dstack-cloud/test/fixtures';
import type { Trust } from '../evidence/trust.ts';
import type { ClientIdentity } from './ask.ts';
import type { RecordedBody } from './recorded.ts';
import type { WebhookPolicy } from './webhook.ts';

/** One exchange of the larger recording. */
export type FullItem = {
  readonly id: string;
  readonly listener?: string;
  readonly client_cert?: string;
  readonly request?: { method: string; path: string; headers?: [string, string][]; body?: RecordedBody };
  readonly response?: { status?: string; headers?: [string, string][]; body?: RecordedBody };
  readonly webhook?: { path?: string; url?: string; body?: unknown }[];
  readonly webhook_policy?: WebhookPolicy | null;
};

/** Clients, roots and collateral of the larger recording. */
export type FullEvidence = {
  now: number;
  seed_hex: string;
  tdx_root_pem: string;
  nsm_root_pem: string;
  clients: {
    name: string;
    client_key_scalar: string;
    client_cert_pem: string;
    attestation_hex: string;
    response: Record<string, string>;
    boot_auth_app_body: Record<string, unknown>[];
  }[];
  collateral: { path: string; headers: Record<string, string>; body?: RecordedBody; status?: unknown }[];
};

export function fullEvidence(): FullEvidence {
  return fixtureJson<FullEvidence>('kms-original/full/evidence.json');
}

export function fullItems(file: string): FullItem[] {
  return fixtureJson<{ items: FullItem[] }>(`kms-original/full/${file}.json`).items;
}

/** Certificates and keys of the recorded guests, by name. */
export function fullClients({ clients }: FullEvidence): Record<string, ClientIdentity> {
  return Object.fromEntries(
    clients.map(({ name, client_key_scalar: scalar, client_cert_pem: cert }) => [
      name,
      { cert, key: p256KeyPem(p256KeyFromScalar(fromHex(scalar))) },
    ]),
  );
}

/** The roots of that recording, its collateral as it was served, and a simulated platform for the KMS itself. */
export function fullTrust(evidence: FullEvidence, platform: SimulatedPlatform): Trust {
  const now = (): number => evidence.now;
  const served = pcsCollateral({
    baseUrl: 'http://collateral.invalid',
    now,
    fetch: servedCollateral(evidence),
  });
  const own = platform.collateralSource(now);
  const collateral: CollateralSource = {
    tdx: (request) => (request.fmspc === toHex(platform.fmspc) ? own : served).tdx(request),
    settled: (answer, isGood) => served.settled!(answer, isGood),
  };
  const roots: TrustRoots = withTdxRoot(
    withTdxRoot(vendorRoots(), decodePem(evidence.tdx_root_pem, 'CERTIFICATE')),
    platform.rootDer,
  );
  const nsm = { name: 'recorded', der: decodePem(evidence.nsm_root_pem, 'CERTIFICATE'), simulated: true };
  return { roots: { ...roots, nitro: [...roots.nitro, nsm] }, collateral, simulated: true };
}

/** The recorded collateral service, by its HTTP answers. */
export function servedCollateral({ collateral }: FullEvidence): typeof fetch {
  return async (input) => {
    const url = new URL(String(input));
    const known = collateral.find(({ path }) => sameTarget(path, url));
    if (known === undefined) return new Response('not recorded', { status: 404 });
    const body =
      known.body?.hex === undefined ? (known.body?.utf8 ?? '') : Buffer.from(known.body.hex, 'hex');
    return new Response(body, { headers: known.headers });
  };
}

function sameTarget(recorded: string, { pathname, searchParams }: URL): boolean {
  const other = new URL(recorded, 'http://x');
  if (other.pathname !== pathname) return false;
  return [...other.searchParams].every(
    ([name, value]) => searchParams.get(name)?.toLowerCase() === value.toLowerCase(),
  );
}
