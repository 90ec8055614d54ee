/**
 * Random interleavings of boots, registrations, revocations, reorganisations, replications, new key epochs, restarts and
 * crashes, on two real key services and a real chain, requests and changes at the same time. Whatever the order: keys
 * go only to what the policy allowed at the head and at the finalized block of a view of that time, and every release has
 * exactly one audit record.
 *
 * `DSTACK_MODEL_RUNS` runs so many sequences instead of as many as a short time allows; `DSTACK_MODEL_SEED`,
 * `DSTACK_MODEL_PATH` and `DSTACK_MODEL_REPLAY` repeat what a failure names.
 */
import { randomInt } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ChainControl, controlChain } from '../harness/chain-control.ts';
import { chainPolicyConfig, type LabChain, measurementsOf, startLabChain } from '../harness/kms-chain.ts';
import { type KmsLab, startKmsLab } from '../harness/kms-lab.ts';
import { kmsCommands } from '../harness/kms-model/commands.ts';
import type { Epoch, Model, World } from '../harness/kms-model/model.ts';
import { replicate } from '../harness/kms-model/replication.ts';
import { ModelService } from '../harness/kms-model/service.ts';
import { CONFIRMATIONS, Timeline } from '../harness/kms-model/timeline.ts';

const APPS = 3;
/** The first reads the chain for each request; the second goes on with a head for a moment, as by default, in two processes. */
const REUSE_MS = [0, 1_000];
const WORKERS = [1, 2];

const { DSTACK_MODEL_RUNS, DSTACK_MODEL_SEED, DSTACK_MODEL_PATH, DSTACK_MODEL_REPLAY } = process.env;
const runs = DSTACK_MODEL_RUNS === undefined ? 1_000 : Number(DSTACK_MODEL_RUNS);
const timeLimitMs = DSTACK_MODEL_RUNS === undefined ? 20_000 : Number.POSITIVE_INFINITY;
/** On a busy machine too. */
const LEAST_RUNS = 2;
const LEAST_RELEASES = 10;
const SHRINK_MS = 180_000;
const seed = DSTACK_MODEL_SEED === undefined ? randomInt(2 ** 31) : Number(DSTACK_MODEL_SEED);

let lab: KmsLab;
let chain: LabChain;
let control: ChainControl;
let world: World;
let base: `0x${string}`;

const freshModel = (): Model => {
  const apps = Array.from({ length: APPS }, () => true);
  const block = { apps, isImageAllowed: true, services: REUSE_MS.map(() => true) };
  const epochs = apps.map((): Epoch => ({ epoch: 0, keepsPrevious: false }));
  return { blocks: [block], snapshots: [], epochs };
};

beforeAll(async () => {
  lab = await startKmsLab();
  chain = await startLabChain(lab);
  control = controlChain(chain);
  const services: ModelService[] = [];
  for (const [index, reuseMs] of REUSE_MS.entries()) services.push(await addService(reuseMs, index));
  await settle();
  const [first] = services;
  const setup = first!.host.run();
  await setup.until('onboarding listener started');
  const bootstrap = { method: 'POST', body: JSON.stringify({ domain: '127.0.0.1' }) };
  const made = await fetch(`${setup.onboardUrl}/prpc/Onboard.Bootstrap?json`, bootstrap);
  expect(made.status, await made.text()).toBe(200);
  await fetch(`${setup.onboardUrl}/finish`);
  const kms = await first!.adopt(setup);
  const apps = [];
  for (let index = 0; index < APPS; index++) {
    const workload = await chain.registerApp(`app-${index}`);
    apps.push({ workload, identity: await lab.identity(kms, workload) });
  }
  await settle();
  world = {
    chain: control,
    apps,
    services,
    timeline: new Timeline(),
    keys: new Map(),
    snapshots: [],
    releases: 0,
  };
  base = await control.snapshot();
}, 120_000);
afterAll(async () => {
  await chain?.stop();
  await lab?.stop();
});

/** What is on chain now holds at the finalized block too. */
async function settle(): Promise<void> {
  for (let block = 0; block < CONFIRMATIONS; block++) await control.mine();
}

async function addService(reuseMs: number, index: number): Promise<ModelService> {
  // Blocks come with transactions alone here, so their age says nothing.
  const rules = { max_block_age: '1h', head_reuse_ms: reuseMs, finality: CONFIRMATIONS };
  const host = await lab.host(`model-${index}`, {
    rpc: { workers: WORKERS[index] },
    core: {
      auth_api: chainPolicyConfig(chain, [chain.anvil.rpcUrl], rules),
      onboard: { auto_bootstrap_domain: '' },
      audit: { max_segment_bytes: 4096 },
    },
  });
  await chain.registerKms(host);
  return new ModelService(host, (await measurementsOf(lab, host)).mrAggregated, reuseMs);
}

/** Everything as at the beginning, whatever the run before left behind. */
async function reset(model: Model): Promise<void> {
  const note = async (): Promise<void> => world.timeline.restart(await control.head(), model.blocks);
  await control.revert(base);
  await note();
  // Anvil forgets the state of blocks that many others came after, also if those are gone again.
  for (let block = 0; block <= CONFIRMATIONS; block++) {
    await control.mine();
    await note();
  }
  base = await control.snapshot();
  world.snapshots.length = 0;
  // What they remember of the chain before is longer than this one, and perhaps later.
  await Promise.all(
    world.services.map(async (service) => {
      service.configureEpochs(world.apps, model.epochs);
      await service.stop();
      if (service.hasKeys) await service.serve();
      service.news();
    }),
  );
  world.timeline.forget();
  const target = world.services.findIndex(({ hasKeys }) => !hasKeys);
  if (target >= 0) await replicate({ target, changes: [], asks: [], crashAfterMs: null }, model, world);
}

describe('model', () => {
  test(
    'model-based-release: in any order of events, keys go only to what the chain allows, each with one record',
    async () => {
      let done = 0;
      let hasFailed = false;
      let until = Date.now() + timeLimitMs;
      const property = fc.asyncProperty(
        kmsCommands(APPS, REUSE_MS.length, DSTACK_MODEL_REPLAY),
        async (commands) => {
          const isEnough = done >= LEAST_RUNS && world.releases > LEAST_RELEASES;
          if (Date.now() > until && (hasFailed || isEnough)) return;
          const model = freshModel();
          try {
            await reset(model);
            await fc.asyncModelRun(() => ({ model, real: world }), commands);
          } catch (error) {
            // What is left of the time goes into a shorter sequence that fails too.
            if (!hasFailed) until = Date.now() + SHRINK_MS;
            hasFailed = true;
            throw error;
          }
          done += 1;
          if (done % 25 === 0) console.log(`model: ${done} sequences, ${world.releases} releases`);
        },
      );
      const path = DSTACK_MODEL_PATH === undefined ? {} : { path: DSTACK_MODEL_PATH };
      const found = await fc.check(property, { numRuns: runs, seed, ...path });
      console.log(`model: DSTACK_MODEL_SEED=${seed}, ${done} sequences, ${world.releases} releases`);
      if (found.failed) throw new Error(report(found), { cause: found.errorInstance });
      if (DSTACK_MODEL_PATH === undefined) {
        expect(done).toBeGreaterThanOrEqual(LEAST_RUNS);
        expect(world.releases).toBeGreaterThan(LEAST_RELEASES);
      }
      for (const service of world.services) await service.expectSoundLog();
    },
    timeLimitMs === Number.POSITIVE_INFINITY ? runs * 120_000 + SHRINK_MS : timeLimitMs + SHRINK_MS + 240_000,
  );
});

/** The shortest sequence found, and how to run it again. */
function report(found: fc.RunDetails<[Iterable<fc.AsyncCommand<Model, World>>]>): string {
  const [commands] = found.counterexample ?? [[]];
  const text = String(commands);
  const replay = /replayPath="([^"]*)"/.exec(text)?.[1] ?? '';
  const environment = `DSTACK_MODEL_SEED=${found.seed} DSTACK_MODEL_PATH=${found.counterexamplePath} DSTACK_MODEL_REPLAY='${replay}'`;
  const steps = text.replace(/\/\*.*\*\//, '').replaceAll('),', ')\n');
  return `${steps}\nafter ${found.numShrinks} shrinks; again: ${environment} npx vitest run test/e2e/kms-model.test.ts\n${found.errorInstance}`;
}
