import type { AddressInfo } from 'node:net';
import {
  AttestationError,
  type CollateralSource,
  dcapCollateralFromJson,
  type RootName,
  replaceRoot,
  type TrustRoots,
  tpmCollateralFromJson,
  vendorRoots,
} from '@dstack-cloud/attestation';
import { decodePem, toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createMetrics } from './metrics.ts';
import { createService, type ServiceOptions } from './server.ts';

interface Exchange {
  readonly name: string;
  readonly now: number;
  readonly request: { method: string; path: string; headers?: Record<string, string>; body?: unknown };
  readonly response: {
    status: number;
    json?: { is_valid?: boolean; details?: Record<string, unknown>; reason?: string };
  };
}

const DIR = 'verifier-original';
const MOCK = 'mock-evidence';

/**
 * Exchanges in which ours answers differently, and why; every other one has the same status, verdict, flags,
 * details and beginning of the reason.
 */
const WANTED: Readonly<Record<string, string>> = {
  'nitro debug enclave': 'debug enclaves are refused with the evidence, before the image step',
  'sys-config as config (legacy image path, download fails)':
    'ours unwraps a sys-config, and verifies its document',
};

let service: ReturnType<typeof createService>;
let base = '';
let options: ServiceOptions;
const state: { now: number; roots: TrustRoots; collateral: CollateralSource } = {
  now: 0,
  roots: vendorRoots(),
  collateral: { tdx: () => Promise.reject(new Error('unset')) },
};

beforeAll(async () => {
  options = {
    verify: {
      get roots() {
        return state.roots;
      },
      collateral: {
        tdx: (request) => state.collateral.tdx(request),
        tpm: (request) => state.collateral.tpm!(request),
      },
      platform: { gcpFirmwareEndorsement: false },
    },
    now: () => state.now,
    maxConcurrency: 4,
    metrics: createMetrics(0),
    log: () => undefined,
  };
  service = createService(options);
  await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(service.address() as AddressInfo).port}`;
});

afterAll(() => new Promise((resolve) => service.close(resolve)));

describeWithFixtures('exchanges of the original service', `${DIR}/exchanges.json`, () => {
  const { exchanges } = fixtureJson<{ exchanges: readonly Exchange[] }>(`${DIR}/exchanges.json`);
  for (const exchange of exchanges) {
    it(`${exchange.name}${exchange.name in WANTED ? ` (differs: ${WANTED[exchange.name]})` : ''}`, async () => {
      setUp(exchange);
      const { method, path, headers } = exchange.request;
      const body = bodyOf(exchange.request.body);
      const response = await fetch(`${base}${path}`, {
        method,
        ...(headers ? { headers } : {}),
        ...(body === undefined ? {} : { body }),
      });
      expect(response.status).toBe(exchange.response.status);
      const expected = exchange.response.json;
      if (response.status !== 200 || !expected) return;
      const json = (await response.json()) as NonNullable<Exchange['response']['json']>;
      if (!expected.details) {
        expect(json).toEqual(expected);
        return;
      }
      if (exchange.name in WANTED) {
        expect(json).not.toMatchObject({ is_valid: expected.is_valid, details: expected.details });
        return;
      }
      expect(json.is_valid).toBe(expected.is_valid);
      expect(json.details).toEqual(expected.details);
      expect(Object.keys(json.details!)).toEqual(Object.keys(expected.details));
      const step = expected.reason?.startsWith('Internal error')
        ? expected.reason
        : expected.reason?.split(':')[0];
      expect(json.reason ?? '').toContain(step ?? '');
    });
  }
});

describe('limits of the service', () => {
  it('serves metrics without evidence in them', async () => {
    const text = await (await fetch(`${base}/metrics`)).text();
    expect(text).toContain('dstack_verifier_requests_total');
    expect(text).toContain('dstack_verifier_simulated_roots 0');
  });
});

describeWithFixtures('answers of the service', MOCK, () => {
  it('tells clients to come back when too many verify at once', async () => {
    let release: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const unavailable = new AttestationError('collateral-unavailable', 'gone');
    state.roots = mockRoots();
    state.now = 1781524800;
    state.collateral = { tdx: () => gate.then(() => Promise.reject(unavailable)) };
    const body = JSON.stringify({ attestation: toHex(fixture(`${MOCK}/set-a/evidence/tdx-good.v0.bin`)) });
    const post = () => fetch(`${base}/verify`, { method: 'POST', body });
    // Of one address half of the places are taken, and so many wait.
    const places = 2 + 2 * options.maxConcurrency;
    const all = Array.from({ length: places + 1 }, post);
    const refused = await Promise.race(all);
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1']);
    expect(await refused.json()).toEqual({
      error: { code: 'busy', message: 'Too many verifications at once; try again' },
    });
    release();
    const answers = (await Promise.all(all)).filter((answer) => answer !== refused);
    expect(answers.map((answer) => answer.status)).toEqual(Array.from({ length: places }, () => 200));
    expect(await answers[0]!.json()).toMatchObject({ is_valid: false, code: 'collateral-unavailable' });
  });

  it('says simulated in every answer under a root that is not a vendor root', async () => {
    state.roots = mockRoots();
    state.now = 1781524800;
    const body = JSON.stringify({ attestation: toHex(fixture(`${MOCK}/set-a/evidence/nitro-good.v0.bin`)) });
    const answer = await fetch(`${base}/verify`, { method: 'POST', body });
    expect(await answer.json()).toMatchObject({ is_valid: true, simulated: true, code: null });
  });
});

function setUp(exchange: Exchange): void {
  state.now = exchange.now;
  state.roots = exchange.name.startsWith('production anchors') ? vendorRoots() : mockRoots();
  const none = /404|unreachable/.test(exchange.name);
  const collateral = (name: string) =>
    fixtureJson<Record<string, string>>(`${MOCK}/set-a/collateral/${name}`);
  state.collateral = {
    tdx: async () => {
      if (none) throw new AttestationError('collateral-unavailable', 'HTTP 404');
      return dcapCollateralFromJson(collateral('tdx-base.json'));
    },
    tpm: async () => tpmCollateralFromJson(collateral('tpm-base.json')),
  };
}

function mockRoots(): TrustRoots {
  const { sets } = fixtureJson<{ sets: { A: { roots: Record<string, string> } } }>(`${MOCK}/expected.json`);
  return Object.entries(sets.A.roots).reduce(
    (roots, [name, path]) =>
      replaceRoot(roots, name as RootName, decodePem(fixtureText(`${MOCK}/${path}`), 'CERTIFICATE')),
    vendorRoots(),
  );
}

/** Resolves the short forms of the recording: `@hex F`, `@text F`, `@vm_config F` and so on. */
function bodyOf(body: unknown): string | undefined {
  if (body === undefined || body === null) return undefined;
  if (typeof body === 'string') {
    const digits = /<(\d+) zero digits>/.exec(body);
    return digits ? body.replace(digits[0], '0'.repeat(Number(digits[1]))) : body;
  }
  if (Array.isArray(body)) return JSON.stringify(body);
  const members = Object.entries(body as object).map(([name, value]) => [name, resolve(value)]);
  return JSON.stringify(Object.fromEntries(members));
}

function resolve(value: unknown): unknown {
  if (typeof value !== 'string') return value;
  if (value.startsWith('0x + ')) return `0x${String(resolve(value.slice(5)))}`;
  if (value.startsWith('upper case of ')) return String(resolve(value.slice(14))).toUpperCase();
  const match = /^@(hex|text|vm_config) (.+)$/.exec(value);
  if (!match) return value;
  const path = `${DIR}/${match[2]}`;
  if (match[1] === 'hex') return toHex(fixture(path));
  if (match[1] === 'text') return fixtureText(path);
  return fixtureJson<{ vm_config: string }>(path).vm_config;
}
