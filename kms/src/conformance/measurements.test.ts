/** That keys are for measured images and accepted patch levels, on every platform. */
import { eventLogToJson, GCE_TDX_PCR0 } from '@dstack-cloud/attestation';
import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { deriveAppKeys } from '@dstack-cloud/keys';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import type { Forged } from '@dstack-cloud/verifier/test-support/forged';
import { gceInstance, setMachine, setPcr, setPcr2 } from '@dstack-cloud/verifier/test-support/gcp-forge';
import { SNP } from '@dstack-cloud/verifier/test-support/snp-forge';
import { setTd } from '@dstack-cloud/verifier/test-support/tdx-forge';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningKms } from '../start-kms.ts';
import { type ClientIdentity, call } from '../test/ask.ts';
import { type Lab, openLab } from '../test/lab.ts';
import {
  gcpEvidence,
  MODES_NOW,
  modeClient,
  modesTrust,
  nitroEvidence,
  nitroTpmEvidence,
  snpEvidence,
  tdxEvidence,
} from '../test/mode-evidence.ts';

type Maker = (reportData: Uint8Array) => Forged;

const APP = fromHex('071a649431c113d82c5d02ab18ebb445aced9b74');
const INSTANCE = fromHex('6a465353091b97593725877e847445abca8c6f02');
const MODES: readonly { mode: string; good: Maker }[] = [
  { mode: 'dstack-tdx', good: tdxEvidence() },
  { mode: 'dstack-gcp-tdx', good: gcpEvidence() },
  { mode: 'dstack-amd-sev-snp', good: snpEvidence() },
  { mode: 'dstack-nitro-enclave', good: nitroEvidence() },
  { mode: 'dstack-aws-nitro-tpm', good: nitroTpmEvidence() },
];
const attestation = {
  insecure_allow_external_trust_anchors: true,
  insecure_skip_gcp_firmware_endorsement: true,
};
const GATES = { sev_snp_key_release: true, aws_nitro_tpm_key_release: true };

describeWithFixtures('measurements of all platforms', 'mock-evidence/expected.json', () => {
  let lab: Lab;
  let kms: RunningKms;
  const start = (core: Record<string, unknown> = {}, trust = modesTrust(lab.platform)): Promise<RunningKms> =>
    lab.start({ core: { attestation, ...GATES, ...core }, options: { now: () => MODES_NOW, trust } });
  beforeAll(async () => {
    lab = await openLab();
    kms = await start();
  });
  afterAll(() => lab.close());

  const getAppKey = (client: ClientIdentity, vmConfig = '', { main } = kms) =>
    call(main.port, 'GetAppKey', { api_version: 1, vm_config: vmConfig }, { client });

  describe('the image that the evidence names is the one that was measured', () => {
    const flipped = (bytes: Uint8Array, at = 0): Uint8Array =>
      bytes.map((byte, index) => (index === at ? byte ^ 1 : byte));
    const cases: [string, Maker, RegExp][] = [
      [
        'TDX: another MRTD',
        tdxEvidence((draft) => setTd(draft, 'mrTd', new Uint8Array(48).fill(9))),
        /mrtd/i,
      ],
      [
        'TDX: another RTMR 2',
        tdxEvidence((draft) => setTd(draft, 'rtmr2', new Uint8Array(48).fill(9))),
        /rtmr2/i,
      ],
      [
        'GCP: another UKI as the third event of PCR 2',
        gcpEvidence((draft) => {
          setPcr2(draft, (digests) =>
            digests.map((digest, index) => (index === 2 ? flipped(digest) : digest)),
          );
        }),
        /UKI hash mismatch: expected=[0-9a-f]{64}, actual=[0-9a-f]{64}$/,
      ],
      [
        'SEV-SNP: another launch measurement',
        snpEvidence((draft) => {
          draft.report.set(
            flipped(draft.report.slice(SNP.measurement, SNP.measurement + 48)),
            SNP.measurement,
          );
        }),
        /measurement/i,
      ],
      [
        'Nitro: another PCR 0',
        nitroEvidence((draft) => {
          draft.pcrs.set(0, new Uint8Array(48).fill(9));
        }),
        /os_image_hash mismatch/,
      ],
      [
        'Nitro: another image in the configuration',
        nitroEvidence((draft) => {
          draft.config = { os_image_hash: '77'.repeat(32) };
        }),
        /os_image_hash mismatch: expected=7{64}, computed=[0-9a-f]{64}$/,
      ],
      [
        'NitroTPM: another PCR 4',
        nitroTpmEvidence((draft) => {
          draft.pcrs.set(4, new Uint8Array(48).fill(9));
        }),
        /Boot PCR digest mismatch/,
      ],
    ];
    test.each(cases)('%s', async (_, evidence, text) => {
      lab.webhook.asked.length = 0;
      const { status, json } = await getAppKey(modeClient(evidence));
      expect([status, json['code']]).toEqual([400, 'MEASUREMENT_NOT_FOUND']);
      expect(json['error']).toMatch(/^App not allowed: (Failed to verify os image hash: ){2}/);
      expect(json['error']).toMatch(text);
      expect(lab.webhook.asked.filter(({ path }) => path === '/bootAuth/app')).toEqual([]);
    });
    test('refused in the same words before collateral is fetched', async () => {
      const trust = modesTrust(lab.platform);
      const asked: string[] = [];
      const tdx: typeof trust.collateral.tdx = (request) => {
        asked.push(request.fmspc);
        return trust.collateral.tdx(request);
      };
      const bare = { ...trust, collateral: { ...trust.collateral, atHand: () => false, tdx } };
      const running = await start({}, bare);
      asked.length = 0;
      for (const at of [0, 2]) {
        const client = modeClient(cases[at]![1]);
        const usual = await getAppKey(client);
        expect(await getAppKey(client, '', running)).toEqual(usual);
        expect(usual.json['error']).toMatch(cases[at]![2]);
      }
      expect(asked).toEqual([]);
    });

    test('GCP: a firmware that is not on the list is refused as evidence', async () => {
      const client = modeClient(
        gcpEvidence((draft) => {
          draft.pcrValues = draft.pcrValues.map((pcr) =>
            pcr.index === 0 ? { ...pcr, value: flipped(pcr.value) } : pcr,
          );
        }),
      );
      expect((await getAppKey(client)).json).toMatchObject({ code: 'UNAUTHORIZED' });
    });

    test('a debug enclave and a debug guest get nothing', async () => {
      const enclave = modeClient(
        nitroEvidence((draft) => {
          for (const index of [0, 1, 2]) draft.pcrs.set(index, new Uint8Array(48));
        }),
      );
      const guest = modeClient(
        snpEvidence((draft) => {
          // Bit 19 of the guest policy: debugging.
          draft.report[SNP.policy + 2]! |= 0x08;
        }),
      );
      for (const client of [enclave, guest]) {
        expect((await getAppKey(client)).json).toMatchObject({
          code: 'UNAUTHORIZED',
          error: expect.stringMatching(/debug/i),
        });
      }
    });
  });

  test('TDX in the extensions .1 and .2: with the configuration in the request, the same keys', async () => {
    const { attestation: sample } = tdxEvidence()(new Uint8Array(64));
    if (sample.quote.mode !== 'dstack-tdx') throw new Error('bare TDX');
    const client = modeClient(tdxEvidence(), {
      legacyLog: utf8(eventLogToJson(sample.quote.eventLog, { strip: false })),
    });
    // These certificates carry no configuration.
    expect((await getAppKey(client)).json['error']).toMatch(/os_image_hash is missing/);
    const { status, json } = await getAppKey(client, sample.config);
    expect([status, json['error']]).toEqual([200, undefined]);
    const keys = deriveAppKeys(kms.kms.keys.roots, APP, INSTANCE);
    expect(json).toMatchObject({ disk_crypt_key: toHex(keys.diskCryptKey), k256_key: toHex(keys.k256Key) });
  });

  test('GCP: firmware without an endorsement is taken of simulated machines alone, and only when configured so', async () => {
    const client = modeClient(gcpEvidence((draft) => setMachine(draft, gceInstance(true))));
    const trust = modesTrust(lab.platform);
    const asked: boolean[] = [];
    // As if the root of the mock were Google's.
    const gcpTpm = trust.roots.gcpTpm.map((root) => ({ ...root, simulated: false }));
    const tpm = (request: Parameters<NonNullable<typeof trust.collateral.tpm>>[0]) => {
      asked.push(request.mrtd !== undefined);
      return trust.collateral.tpm!(request);
    };
    const vendor = { ...trust, roots: { ...trust.roots, gcpTpm }, collateral: { ...trust.collateral, tpm } };
    const release = async (core: Record<string, unknown>, judgedBy = trust) =>
      getAppKey(client, '', await start(core, judgedBy));
    expect((await release({})).status).toBe(200);
    const strict = { insecure_allow_external_trust_anchors: true };
    const unendorsed = { status: 400, json: { code: 'UNAVAILABLE' } };
    expect(await release({ attestation: strict })).toMatchObject(unendorsed);
    expect(await release({}, vendor)).toMatchObject(unendorsed);
    expect(asked).toEqual([false, true]);
    await expect(start({ attestation: { insecure_skip_gcp_firmware_endorsement: true } })).rejects.toThrow(
      'it needs insecure_allow_external_trust_anchors',
    );
  });

  test('GCP: the configured list of firmwares stands in place of the default', async () => {
    const newer = new Uint8Array(32).fill(5);
    const known = modeClient(gcpEvidence());
    const other = modeClient(
      gcpEvidence((draft) => {
        draft.eventLog = draft.eventLog.filter(({ pcrIndex }) => pcrIndex !== 0);
        setPcr(draft, 0, newer);
      }),
    );
    for (const [list, ofKnown, ofOther] of [
      [undefined, 200, 400],
      [[toHex(newer)], 400, 200],
      [[`0x${toHex(newer).toUpperCase()}`, GCE_TDX_PCR0], 200, 200],
      [[], 400, 400],
    ] as const) {
      const running = await start({ image: list === undefined ? {} : { gcp_allowed_pcr0: list } });
      const found = [known, other].map(async (client) => (await getAppKey(client, '', running)).status);
      expect([list, ...(await Promise.all(found))]).toEqual([list, ofKnown, ofOther]);
    }
  });

  test('patch levels: what the configuration does not accept is refused; an enclave has none', async () => {
    const picky = await start({
      attestation: { ...attestation, accepted_tcb_statuses: ['SWHardeningNeeded'] },
    });
    for (const { mode, good } of MODES) {
      const { status, json } = await getAppKey(modeClient(good), '', picky);
      if (mode === 'dstack-nitro-enclave') expect([mode, status]).toEqual([mode, 200]);
      else {
        expect([mode, status, json['code']]).toEqual([mode, 400, 'MEASUREMENT_NOT_FOUND']);
        expect(json['error']).toMatch(/TCB status is not allowed: .*UpToDate/);
      }
    }
    // A rule for one kind of evidence holds for that alone, and instead of the common one.
    const rules = {
      'dstack-tdx': { accepted_statuses: ['UpToDate'] },
      'dstack-gcp-tdx': { accepted_statuses: ['OutOfDate'] },
    };
    for (const common of [{}, { accepted_tcb_statuses: ['UpToDate'] }]) {
      const byMode = await start({ attestation: { ...attestation, ...common, tcb: rules } });
      for (const { mode, good } of MODES) {
        const { status } = await getAppKey(modeClient(good), '', byMode);
        expect([mode, status]).toEqual([mode, mode === 'dstack-gcp-tdx' ? 400 : 200]);
      }
    }
    const usual = await start({ attestation: { ...attestation, accepted_tcb_statuses: ['UpToDate'] } });
    for (const { good } of MODES) expect((await getAppKey(modeClient(good), '', usual)).status).toBe(200);
  });
});
