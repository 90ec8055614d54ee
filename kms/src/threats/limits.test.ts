/** What an attacker chooses costs himself, and is not given back; what is verified is counted by what was verified. */
import {
  encodeAttestation,
  type RuntimeEvent,
  ratlsReportData,
  type VerifiedAttestation,
  vendorCollateral,
} from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { OID } from '@dstack-cloud/ra-tls';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { SNP } from '@dstack-cloud/verifier/test-support/snp-forge';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { workloadOf } from '../evidence/workload-of.ts';
import type { RunningKms } from '../start-kms.ts';
import { type ClientIdentity, call } from '../test/ask.ts';
import { forgeCertificate } from '../test/forge-certificate.ts';
import { type Lab, openLab } from '../test/lab.ts';
import { MODES_NOW, modeClient, modesTrust, nitroEvidence, snpEvidence } from '../test/mode-evidence.ts';

let lab: Lab;
beforeAll(async () => {
  lab = await openLab();
});
afterEach(() => {
  lab.webhook.policy = {};
});
afterAll(() => lab.close());

/** All but the limits under test out of the way. */
const limits = (rate_limit: object) => ({
  rate_limit: {
    enabled: true,
    open_per_minute: 10_000,
    open_burst: 10_000,
    network_cost_per_minute: 10_000,
    network_cost_burst: 10_000,
    ...rate_limit,
  },
});
const deny = { body: { isAllowed: false, gatewayAppId: '', reason: 'Compose hash not allowed' } };
const id = (seed: number, length = 20) => new Uint8Array(length).fill(seed);
const keysOf = ({ main }: RunningKms, client: ClientIdentity) =>
  call(main.port, 'GetAppKey', { api_version: 1 }, { client });
/** Statuses of requests that follow each other; `closed` where there was no handshake. */
async function inTurn(kms: RunningKms, clients: readonly ClientIdentity[]): Promise<(number | 'closed')[]> {
  const statuses: (number | 'closed')[] = [];
  for (const client of clients) {
    statuses.push(
      await keysOf(kms, client).then(
        ({ status }) => status,
        () => 'closed' as const,
      ),
    );
  }
  return statuses;
}
const instances = (count: number, app = 0x11, first = 0): ClientIdentity[] =>
  Array.from({ length: count }, (_, n) =>
    lab.client(lab.guest({ appId: id(app), instanceId: id(first + n) })),
  );

describe('limits of workloads', () => {
  test('fleet-may-boot: each instance is counted for itself, by default', async () => {
    const kms = await lab.start({ core: limits({}) });
    const fleet = instances(60);
    const statuses: number[] = [];
    while (fleet.length > 0) {
      const batch = fleet.splice(0, 25).map((client) => keysOf(kms, client));
      statuses.push(...(await Promise.all(batch)).map(({ status }) => status));
    }
    expect(statuses).toEqual(statuses.map(() => 200));
  });

  test('release-limit: an application has so many releases, and a denial is none of them', async () => {
    const kms = await lab.start({ core: limits({ app_per_minute: 1, app_burst: 4 }) });
    lab.webhook.policy = { app: (body) => (body.includes('22'.repeat(32)) ? undefined : deny) };
    const other = Array.from({ length: 8 }, (_, n) =>
      lab.client(lab.guest({ composeHash: id(0x66, 32), instanceId: id(n) })),
    );
    // Evidence that names the application, of code that its policy does not know.
    expect(await inTurn(kms, other)).toEqual(other.map(() => 400));
    expect(await inTurn(kms, instances(6))).toEqual([200, 200, 200, 200, 429, 429]);
    expect(await inTurn(kms, instances(2, 0x12))).toEqual([200, 200]);
    const lines = (await kms.kms.audit.records(0, 100)).map(
      (line) => JSON.parse(line) as { decision: string },
    );
    expect(lines.filter(({ decision }) => decision === 'allowed')).toHaveLength(6);
  });

  test('denied-workloads-cost: an address that shows workloads which are denied is shut out', async () => {
    const strict = limits({ refused_evidence_per_minute: 1, refused_evidence_burst: 4 });
    const kms = await lab.start({ core: strict });
    expect(await inTurn(kms, instances(6))).toEqual([200, 200, 200, 200, 200, 200]);
    lab.webhook.policy = { app: deny };
    expect(await inTurn(kms, instances(6))).toEqual([400, 400, 400, 400, 'closed', 'closed']);
  });

  test('outage-costs-nobody: what is out of order here is counted against nobody', async () => {
    const strict = limits({ refused_evidence_per_minute: 1, refused_evidence_burst: 2 });
    const kms = await lab.start({ core: strict });
    lab.webhook.policy = { app: { status: 500, raw: 'down' } };
    expect(await inTurn(kms, instances(5))).toEqual([400, 400, 400, 400, 400]);
    lab.webhook.policy = { kms: deny };
    expect(await inTurn(kms, instances(5))).toEqual([400, 400, 400, 400, 400]);
    lab.webhook.policy = {};
    expect(await inTurn(kms, instances(1))).toEqual([200]);
  });

  test('large-vm-config: is refused by its size, before limit, policy and record, and nothing of it is kept', async () => {
    const kms = await lab.start({ core: limits({ attested_per_minute: 1, attested_burst: 2 }) });
    const client = lab.client(lab.guest());
    const ask = (vm_config: string) =>
      call(kms.main.port, 'GetAppKey', { api_version: 1, vm_config }, { client });
    lab.webhook.asked.length = 0;
    const { vmConfig } = lab.guest();
    for (let i = 0; i < 4; i++) {
      const { status, json } = await ask(vmConfig + ' '.repeat(200_000));
      expect([status, json['code']]).toEqual([400, 'INVALID_ARGUMENT']);
      expect(json['error']).toMatch(
        /^App not allowed: vm_config must be at most 131072 characters, found \d+$/,
      );
    }
    expect(lab.webhook.asked).toEqual([]);
    expect(await kms.kms.audit.records(0, 10)).toEqual([]);
    expect([(await ask(vmConfig)).status, (await ask(vmConfig)).status]).toEqual([200, 200]);
  });

  test('no-collateral-costs: evidence that cannot be judged is not given back', async () => {
    const collateral = vendorCollateral({
      roots: lab.trust.roots,
      fetch: async () => new Response(null, { status: 503 }),
    });
    const kms = await lab.start({
      core: limits({ refused_evidence_per_minute: 1, refused_evidence_burst: 3 }),
      options: { trust: { ...lab.trust, collateral } },
    });
    expect(await inTurn(kms, instances(5))).toEqual([400, 400, 400, 'closed', 'closed']);
  });
});

describeWithFixtures('limits of enclaves and reports', 'mock-evidence/expected.json', () => {
  const attestation = { insecure_allow_external_trust_anchors: true };
  const start = (core: object, trust = modesTrust(lab.platform)) =>
    lab.start({ core: { attestation, ...core }, options: { now: () => MODES_NOW, trust } });

  test('one-document-many-names: unmeasured ids make no more of an enclave', async () => {
    const kms = await start(limits({ attested_per_minute: 1, attested_burst: 10 }));
    const key = generateP256Key();
    const { attestation: enclave } = nitroEvidence()(ratlsReportData(key.spki));
    const named = (seed: number): ClientIdentity => {
      const names: RuntimeEvent[] = [
        { event: 'app-id', payload: id(seed) },
        { event: 'instance-id', payload: id(seed) },
      ];
      const content = encodeAttestation({ ...enclave, runtimeEvents: names });
      return { cert: forgeCertificate(key, [{ oid: OID.attestation, content }]), key: p256KeyPem(key) };
    };
    const statuses = await inTurn(
      kms,
      Array.from({ length: 40 }, (_, seed) => named(seed + 1)),
    );
    expect(statuses.filter((status) => status === 200)).toHaveLength(10);
    expect(new Set(statuses.slice(10))).toEqual(new Set([429]));
  });

  test('victim-keeps-its-bucket: an enclave of another image that claims the same names empties its own', async () => {
    const kms = await start(limits({ attested_per_minute: 1, attested_burst: 5 }));
    const victim = modeClient(nitroEvidence());
    const impostor = modeClient(nitroEvidence((draft) => draft.pcrs.set(0, id(0x77, 48))));
    expect(
      (
        await inTurn(
          kms,
          Array.from({ length: 8 }, () => impostor),
        )
      ).slice(5),
    ).toEqual([429, 429, 429]);
    expect(
      await inTurn(
        kms,
        Array.from({ length: 5 }, () => victim),
      ),
    ).toEqual([200, 200, 200, 200, 200]);
  });

  /** A KMS whose vendors' services are asked through `fetch`, and what they are asked. */
  async function counted(core: object) {
    const asked: string[] = [];
    const trust = modesTrust(lab.platform);
    const vendors = vendorCollateral({
      roots: trust.roots,
      isPublic: true,
      now: () => MODES_NOW,
      fetch: async (url) => {
        asked.push(url);
        return new Response(null, { status: 404 });
      },
    });
    const { tdx } = trust.collateral;
    const collateral = { ...vendors, tdx };
    return { kms: await start(core, { ...trust, collateral }), asked };
  }
  const bareReport = (seed: number): ClientIdentity =>
    modeClient(
      snpEvidence((draft) => {
        draft.chain = () => [];
        draft.report.set(id(seed, 64), SNP.chipId);
      }),
    );
  const reports = (count: number) => Array.from({ length: count }, (_, seed) => bareReport(seed + 1));

  test('closed-gate-asks-nobody: reports without certificates of a platform that gets no keys', async () => {
    const { kms, asked } = await counted({ ...limits({}), sev_snp_key_release: false });
    const { status, json } = await keysOf(kms, bareReport(1));
    expect([status, json['error']]).toEqual([400, 'invalid quote: amd sev-snp key release is not enabled']);
    await inTurn(kms, reports(10));
    expect(asked).toEqual([]);
  });

  test('vendor-budget: reports of invented chips cost AMD a bounded number of requests', async () => {
    const budget = { refused_evidence_burst: 1000, collateral_per_minute: 6 };
    const { kms, asked } = await counted({ ...limits(budget), sev_snp_key_release: true });
    const statuses = await inTurn(kms, reports(20));
    expect(statuses).toEqual(statuses.map(() => 400));
    expect(asked).toHaveLength(6);
    // The chip that was asked for last is not asked for again at once, and costs nothing.
    expect(new Set(asked).size).toBe(6);
  });
});

test('the name of a workload follows the hardware, not what a workload says or extends later', () => {
  const events = (...names: string[]): RuntimeEvent[] =>
    names.map((event) => ({ event, payload: new Uint8Array() }));
  const nameOf = (change: Partial<Record<keyof VerifiedAttestation, unknown>>) =>
    workloadOf({
      mode: 'dstack-tdx',
      evidence: { kind: 'tdx' },
      registers: { mrtd: id(1, 48), rtmr0: id(2, 48), rtmr3: id(3, 48) },
      rawDeviceId: id(4, 16),
      runtimeEvents: events('app-id', 'boot-mr-done'),
      config: '{}',
      ...change,
    } as unknown as VerifiedAttestation);
  const name = nameOf({});
  expect(nameOf({ runtimeEvents: events('app-id', 'boot-mr-done', 'late') })).toBe(name);
  expect(nameOf({ registers: { mrtd: id(1, 48), rtmr0: id(2, 48), rtmr3: id(9, 48) } })).toBe(name);
  expect(nameOf({ config: '{"os_image_hash":"ab"}' })).toBe(name);
  for (const other of [
    { registers: { mrtd: id(9, 48), rtmr0: id(2, 48) } },
    { rawDeviceId: id(9, 16) },
    { runtimeEvents: events('instance-id', 'boot-mr-done') },
    { mode: 'dstack-gcp-tdx' },
  ]) {
    expect(nameOf(other)).not.toBe(name);
  }
  const enclave = (moduleId: string) =>
    nameOf({ mode: 'dstack-nitro-enclave', evidence: { kind: 'nitro', moduleId }, rawDeviceId: id(0x69, 1) });
  expect(enclave('i-1-enc1')).not.toBe(enclave('i-1-enc2'));
  expect(toHex(Buffer.from(name, 'base64'))).toMatch(/^[0-9a-f]{64}$/);
});
