/** Commands for a model-based test of key release: each changes a real KMS and chain, and the model with them. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { toHex } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { expect } from 'vitest';
import type { KmsHost } from './kms-lab.ts';
import {
  auditLines,
  expectRecorded,
  hex,
  isAllowed,
  type Model,
  type Policy,
  request,
  type World,
} from './kms-model.ts';
import { bootOf } from './simulated-workload.ts';

type Command = fc.AsyncCommand<Model, World>;

/** A workload boots and asks for its keys. */
const boot = (app: number): Command => ({
  check: () => true,
  async run(model, world) {
    const outcome = await request(world, model, app);
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
    const [outcome] = await Promise.all([request(world, model, app), setApp(world, app, false)]);
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
    const answer = request(world, model, app);
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    await world.kms.stop('SIGKILL');
    const outcome = await answer;
    if (!isAllowed(model, app)) expect(outcome).not.toBe('keys');
    world.kms = await world.host.serve();
    await expectRecorded(world, app, isAllowed(model, app) ? outcome : 'refused');
  },
  toString: () => `crash(${app}, ${afterMs})`,
});

/** The application gets new keys from now on; the service learns it at its next start. */
const raiseEpoch = (app: number): Command => ({
  check: ({ epochs }) => epochs[app]! < 3,
  async run({ epochs }, world) {
    epochs[app]! += 1;
    await world.kms.stop();
    configureEpochs(world, epochs);
    world.kms = await world.host.serve();
  },
  toString: () => `raiseEpoch(${app})`,
});

/** Writes the epochs of all applications into the configuration. */
function configureEpochs({ host, apps }: Pick<World, 'host' | 'apps'>, epochs: readonly number[]): void {
  const path = join(host.directory, 'conf.json');
  const config = JSON.parse(readFileSync(path, 'utf8')) as { core: Record<string, unknown> };
  config.core['key_epochs'] = Object.fromEntries(
    apps.map(({ workload }, index) => [toHex(workload.appId), { epoch: epochs[index] }]),
  );
  writeFileSync(path, JSON.stringify(config), { mode: 0o600 });
}

/** Another machine asks for the root: it gets it whole when the policy allows the key service, else nothing. */
const replicate: Command = {
  check: () => true,
  async run({ policy }, world) {
    const { host, replica, kms } = world;
    rmSync(replica.certDir, { recursive: true, force: true });
    const fresh = replica.run();
    await fresh.until('onboarding listener started');
    const { ok } = await fetch(`${fresh.onboardUrl}/prpc/Onboard.Onboard?json`, {
      method: 'POST',
      body: JSON.stringify({ source_url: kms.url, domain: '127.0.0.1' }),
      signal: AbortSignal.timeout(20_000),
    });
    await fresh.stop('SIGKILL');
    expect(ok).toBe(policy.isKmsAllowed && policy.isImageAllowed);
    const keyOf = ({ certDir }: KmsHost) => {
      const path = join(certDir, 'root-k256.key');
      return existsSync(path) ? readFileSync(path).toString('hex') : undefined;
    };
    expect(keyOf(replica)).toBe(ok ? keyOf(host) : undefined);
    const lines = auditLines(host);
    const allowed = lines.slice(world.records).filter(({ decision }) => decision === 'allowed');
    expect(allowed.map(({ event }) => event)).toEqual(ok ? ['kms-key'] : []);
    world.records = lines.length;
    world.releases += allowed.length;
  },
  toString: () => 'replicate',
};

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
        fc.constant(replicate),
        app.map(raiseEpoch),
        fc.tuple(app, fc.nat({ max: 25 })).map(([index, ms]) => crash(index, ms)),
      ),
    ],
    { maxCommands: 60, size: 'max' },
  );
}
