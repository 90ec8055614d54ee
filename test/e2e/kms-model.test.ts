/**
 * Random interleavings of boots, registrations, revocations, reorganisations, replications, new key epochs, restarts and crashes, on a
 * real KMS and
 * a real chain. Whatever the order: keys go only to what the policy allowed at the head that was used, and every
 * release has exactly one audit record.
 */
import { join } from 'node:path';
import { verifyLog } from '@dstack-cloud/audit-log';
import { toHex } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ChainControl, controlChain } from '../harness/chain-control.ts';
import { chainPolicyConfig, type LabChain, measurementsOf, startLabChain } from '../harness/kms-chain.ts';
import { auditHead, type KmsHost, type KmsLab, startKmsLab } from '../harness/kms-lab.ts';
import { auditLines, type World } from '../harness/kms-model.ts';
import { kmsCommands } from '../harness/kms-model-commands.ts';
import type { KmsProcess } from '../harness/kms-process.ts';

const APPS = 3;
const TIME_LIMIT_MS = 20_000;

let lab: KmsLab;
let chain: LabChain;
let control: ChainControl;
let host: KmsHost;
let replica: KmsHost;
let kms: KmsProcess;
let apps: World['apps'];

beforeAll(async () => {
  lab = await startKmsLab();
  chain = await startLabChain(lab);
  control = controlChain(chain);
  // Blocks come with transactions alone here, so their age says nothing; and each request sees a head read after it
  // came, so that the model knows what it must be told.
  const exact = { max_block_age: '1h', head_reuse_ms: 0 };
  const policy = chainPolicyConfig(chain, [chain.anvil.rpcUrl], exact);
  host = await lab.host('model', { core: { auth_api: policy } });
  const onboard = { auto_bootstrap_domain: '' };
  replica = await lab.host('model-replica', { core: { auth_api: policy, onboard } });
  await chain.registerKms(host);
  await chain.registerKms(replica);
  kms = await host.serve();
  apps = await Promise.all(
    Array.from({ length: APPS }, (_, index) => `app-${index}`).map(async (name) => {
      const workload = await chain.registerApp(name);
      return { workload, identity: await lab.identity(kms, workload) };
    }),
  );
}, 120_000);
afterAll(async () => {
  await chain?.stop();
  await lab?.stop();
});

describe('model', () => {
  test('model-based-release: in any order of events, keys go only to what the chain allows, each with one record', async () => {
    const { mrAggregated } = await measurementsOf(lab, host);
    const keys = new Map<string, string>();
    const epochs = apps.map(() => 0);
    let records = 0;
    let releases = 0;
    let runs = 0;
    const deadline = Date.now() + TIME_LIMIT_MS;
    let base = await control.snapshot();
    await fc.assert(
      fc.asyncProperty(kmsCommands(APPS), async (commands) => {
        if (Date.now() > deadline) return;
        runs += 1;
        await control.revert(base);
        base = await control.snapshot();
        const allAllowed = { apps: apps.map(() => true), isImageAllowed: true, isKmsAllowed: true };
        const model = { policy: allAllowed, snapshots: [], epochs };
        const real: World = {
          ...{ host, replica, chain: control, apps, keys, kms, kmsMr: `0x${toHex(mrAggregated)}` },
          ...{ snapshots: [], records, releases },
        };
        try {
          await fc.asyncModelRun(() => ({ model, real }), commands);
        } finally {
          ({ kms, records, releases } = real);
        }
      }),
      // Shrinking would repeat everything; the commands of the failing run are printed.
      { numRuns: 200, endOnFailure: true },
    );
    expect(runs).toBeGreaterThan(1);
    expect(releases).toBeGreaterThan(10);
    const head = await auditHead(kms);
    await kms.stop();
    const verdict = await verifyLog(join(host.certDir, 'audit'), head.publicKey, [head.signed]);
    const lines = auditLines(host);
    expect(verdict.records).toBe(lines.length);
    expect(lines.filter(({ decision }) => decision === 'allowed')).toHaveLength(releases);
  }, 60_000);
});
