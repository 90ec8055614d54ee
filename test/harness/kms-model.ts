/** Commands for a model-based test of key release: each changes a real KMS and chain, and a model of what must follow. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { toHex } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import type { Hex } from 'viem';
import { expect } from 'vitest';
import type { ChainControl } from './chain-control.ts';
import { getAppKey, type KmsHost } from './kms-lab.ts';
import type { KmsProcess } from './kms-process.ts';
import { bootOf, type Workload } from './simulated-workload.ts';

type Policy = {
  readonly apps: readonly boolean[];
  readonly isImageAllowed: boolean;
  readonly isKmsAllowed: boolean;
};

/** What the chain must say, now and in the states that it may be set back to. */
type Model = { policy: Policy; snapshots: Policy[] };

export type World = {
  readonly host: KmsHost;
  readonly chain: ChainControl;
  readonly apps: readonly { workload: Workload; identity: { cert: string; key: string } }[];
  /** Aggregated measurement of the KMS. */
  readonly kmsMr: Hex;
  kms: KmsProcess;
  snapshots: Hex[];
  /** Records seen so far, and how many answers with keys they belong to. */
  records: number;
  releases: number;
};

type AuditLine = {
  event: string;
  decision: string;
  app_id: string;
  compose_hash: string;
  block_number: number;
};
type Command = fc.AsyncCommand<Model, World>;

const hex = (bytes: Uint8Array): Hex => `0x${toHex(bytes)}`;
const isAllowed = ({ policy }: Model, app: number): boolean =>
  policy.isKmsAllowed && policy.isImageAllowed && policy.apps[app] === true;

/** The whole lines of the audit log on disk. */
export function auditLines({ certDir }: KmsHost): AuditLine[] {
  const text = readFileSync(join(certDir, 'audit', 'audit-000000000000.log'), 'utf8');
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as AuditLine);
}

/**
 * The invariant: an answer with keys has exactly one new record, of that workload, and at the block that the record
 * names the chain allowed it. A refusal has none that says "allowed".
 */
async function expectRecorded(
  world: World,
  app: number,
  outcome: 'keys' | 'refused' | 'unknown',
): Promise<void> {
  const lines = auditLines(world.host);
  const allowed = lines.slice(world.records).filter(({ decision }) => decision === 'allowed');
  world.records = lines.length;
  const seen = JSON.stringify(allowed);
  if (outcome === 'keys') expect(allowed, seen).toHaveLength(1);
  if (outcome === 'refused') expect(allowed, seen).toHaveLength(0);
  expect(allowed.length, seen).toBeLessThanOrEqual(1);
  world.releases += allowed.length;
  const { workload } = world.apps[app]!;
  for (const line of allowed) {
    expect(line.event).toBe('app-key');
    expect(line.app_id).toBe(toHex(workload.appId));
    expect(line.compose_hash).toBe(toHex(workload.composeHash));
    const block = BigInt(line.block_number);
    const composeHash = hex(workload.composeHash);
    expect(await world.chain.isComposeHashAllowed(hex(workload.appId), composeHash, block)).toBe(true);
  }
}

const request = ({ kms, apps }: World, app: number) =>
  getAppKey(kms, apps[app]!.identity).then(
    ({ status, body }) => (status === 200 && /"k256_key":"[0-9a-f]{64}"/.test(body) ? 'keys' : 'refused'),
    () => 'unknown' as const,
  );

/** A workload boots and asks for its keys. */
const boot = (app: number): Command => ({
  check: () => true,
  async run(model, world) {
    const outcome = await request(world, app);
    expect(outcome).toBe(isAllowed(model, app) ? 'keys' : 'refused');
    await expectRecorded(world, app, outcome);
  },
  toString: () => `boot(${app})`,
});

const setApp = (world: World, app: number, allowed: boolean) => {
  const { appId, composeHash } = world.apps[app]!.workload;
  return world.chain.app(hex(appId), allowed ? 'addComposeHash' : 'removeComposeHash', hex(composeHash));
};
const withApp = (policy: Policy, app: number, allowed: boolean): Policy => ({
  ...policy,
  apps: policy.apps.map((before, index) => (index === app ? allowed : before)),
});

const register = (app: number, allowed: boolean): Command => ({
  check: () => true,
  async run(model, world) {
    await setApp(world, app, allowed);
    model.policy = withApp(model.policy, app, allowed);
  },
  toString: () => `${allowed ? 'register' : 'revoke'}(${app})`,
});

/** Revoked while a request is under way: either answer is right, if the block that it names bears it out. */
const bootDuringRevocation = (app: number): Command => ({
  check: () => true,
  async run(model, world) {
    const before = isAllowed(model, app);
    const [outcome] = await Promise.all([request(world, app), setApp(world, app, false)]);
    if (!before) expect(outcome).toBe('refused');
    model.policy = withApp(model.policy, app, false);
    await expectRecorded(world, app, outcome);
  },
  toString: () => `bootDuringRevocation(${app})`,
});

const setImage = (allowed: boolean): Command => ({
  check: () => true,
  async run(model, { chain, apps }) {
    const { osImageHash } = bootOf(apps[0]!.workload.image);
    await chain.kms(allowed ? 'addOsImageHash' : 'removeOsImageHash', hex(osImageHash));
    model.policy = { ...model.policy, isImageAllowed: allowed };
  },
  toString: () => `setImage(${allowed})`,
});

const setKms = (allowed: boolean): Command => ({
  check: () => true,
  async run(model, { chain, kmsMr }) {
    await chain.kms(allowed ? 'addKmsAggregatedMr' : 'removeKmsAggregatedMr', kmsMr);
    model.policy = { ...model.policy, isKmsAllowed: allowed };
  },
  toString: () => `setKms(${allowed})`,
});

const snapshot: Command = {
  check: ({ snapshots }) => snapshots.length < 4,
  async run(model, world) {
    world.snapshots.push(await world.chain.snapshot());
    model.snapshots.push(model.policy);
  },
  toString: () => 'snapshot',
};

/** The blocks since the last snapshot are not in the chain any more. */
const reorganise: Command = {
  check: ({ snapshots }) => snapshots.length > 0,
  async run(model, world) {
    await world.chain.revert(world.snapshots.pop()!);
    model.policy = model.snapshots.pop()!;
  },
  toString: () => 'reorganise',
};

const restart: Command = {
  check: () => true,
  async run(_, world) {
    await world.kms.stop();
    world.kms = await world.host.serve();
  },
  toString: () => 'restart',
};

/** Killed with a request under way: a release that nobody got may be recorded, one that somebody got must be. */
const crash = (app: number, afterMs: number): Command => ({
  check: () => true,
  async run(model, world) {
    const answer = request(world, app);
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    await world.kms.stop('SIGKILL');
    const outcome = await answer;
    if (!isAllowed(model, app)) expect(outcome).not.toBe('keys');
    world.kms = await world.host.serve();
    await expectRecorded(world, app, isAllowed(model, app) ? outcome : 'refused');
  },
  toString: () => `crash(${app}, ${afterMs})`,
});

/** Sequences of commands over `apps` applications; boots are the most frequent, restarts the least. */
export function kmsCommands(apps: number): fc.Arbitrary<Iterable<Command>> {
  const app = fc.nat({ max: apps - 1 });
  const change = fc.tuple(app, fc.boolean()).map(([index, allowed]) => register(index, allowed));
  return fc.commands(
    [
      ...Array.from({ length: 8 }, () => app.map(boot)),
      ...Array.from({ length: 3 }, () => change),
      app.map(bootDuringRevocation),
      fc.boolean().map(setImage),
      fc.boolean().map(setKms),
      fc.constant(setKms(true)),
      fc.constant(setImage(true)),
      ...Array.from({ length: 2 }, () => fc.constant(snapshot)),
      ...Array.from({ length: 2 }, () => fc.constant(reorganise)),
      fc.oneof(
        fc.constant(restart),
        fc.tuple(app, fc.nat({ max: 25 })).map(([index, ms]) => crash(index, ms)),
      ),
    ],
    { maxCommands: 60, size: 'max' },
  );
}
