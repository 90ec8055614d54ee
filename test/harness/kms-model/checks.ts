/** What must hold whenever somebody asked for keys. */
import { toHex } from '@dstack-cloud/encoding';
import { expect } from 'vitest';
import { hexOf } from '../simulated-workload.ts';
import { isAppAllowed, isServiceAllowed, type Model, type World } from './model.ts';
import type { AuditLine } from './service.ts';
import { CONFIRMATIONS, type Span } from './timeline.ts';

/** A workload asks for keys. */
export type Ask = {
  readonly service: number;
  readonly app: number;
  readonly method: 'GetAppKey' | 'GetKey';
  /** It names the epoch before the present one, to move its data. */
  readonly migrates: boolean;
  readonly afterMs: number;
};

export type Answered = {
  readonly ask: Ask;
  /** `unknown`: the service was killed, so nobody knows how far it came. */
  readonly outcome: 'keys' | 'refused' | 'unknown';
  readonly span: Span;
  /** Why it was refused. */
  readonly reason: string;
};

const STALE = 'on-chain state is stale';

const EVENTS = { GetAppKey: 'app-key', GetKey: 'get-key' } as const;

/** The epoch that a request names, when it moves data and there was one before. */
export function heldEpoch({ migrates, app, method }: Ask, { epochs }: Model): number | undefined {
  const { epoch } = epochs[app]!;
  return migrates && method === 'GetAppKey' && epoch > 0 ? epoch - 1 : undefined;
}

export type KeyAnswer = {
  readonly k256_key?: string;
  readonly key?: string;
  readonly key_epoch?: number | null;
  readonly previous_keys?: readonly { readonly key_epoch: number; readonly k256_key: string }[];
};

/** Keys of an app and epoch are always the same, whoever gives them, and nobody else's. */
export function expectOwnKeys(answer: KeyAnswer, ask: Ask, model: Model, { keys }: World): void {
  const { epoch } = model.epochs[ask.app]!;
  const note = (name: string, key: string | undefined): void => {
    expect(key).toMatch(/^[0-9a-f]{64}$/);
    expect(keys.get(name) ?? key, name).toBe(key);
    keys.set(name, key!);
    expect(new Set(keys.values()).size, name).toBe(keys.size);
  };
  if (ask.method === 'GetKey') {
    note(`${ask.app}/${epoch}/model`, answer.key);
    return;
  }
  expect(answer.key_epoch ?? 0).toBe(epoch);
  note(`${ask.app}/${epoch}`, answer.k256_key);
  const held = heldEpoch(ask, model);
  const previous = answer.previous_keys ?? [];
  expect(previous.map(({ key_epoch: old }) => old)).toEqual(held === undefined ? [] : [held]);
  for (const old of previous) note(`${ask.app}/${old.key_epoch}`, old.k256_key);
}

/** Keys only if some view of that time allowed them; and a refusal only if some did not. */
export function expectRight(
  { ask, outcome, span, reason }: Answered,
  model: Model,
  world: World,
  crashed?: number,
): void {
  const { timeline, services } = world;
  const { app, service } = ask;
  const epochRefused = heldEpoch(ask, model) !== undefined && !model.epochs[app]!.keepsPrevious;
  const told = `${JSON.stringify(ask)}: ${outcome} ${reason}`;
  if (outcome === 'unknown') expect(crashed, told).toBe(service);
  if (outcome === 'keys') {
    const views = timeline.views(span, services[service]!.reuseMs);
    expect(epochRefused, told).toBe(false);
    expect(
      views.some((view) => isAppAllowed(view, app)),
      told,
    ).toBe(true);
    expect(
      views.some((view) => isServiceAllowed(view, service)),
      told,
    ).toBe(true);
  }
  if (outcome === 'refused' && reason.includes(STALE)) {
    expect(timeline.wasReorganised(span) || timeline.mayLookBehind(span), told).toBe(true);
  } else if (outcome === 'refused' && !epochRefused && !timeline.wasReorganised(span)) {
    const allowed = timeline
      .views(span, 0)
      .every((view) => isAppAllowed(view, app) && isServiceAllowed(view, service));
    expect(allowed, told).toBe(false);
  }
}

/**
 * The invariant. An answer with keys has exactly one new record, a refusal none that says "allowed", a request whose
 * service was killed at most one; and each names a block at which, and below which, the policy allowed that app.
 */
export async function expectRecorded(
  number: number,
  lines: readonly AuditLine[],
  all: readonly Answered[],
  model: Model,
  world: World,
): Promise<void> {
  const allowed = lines.filter(({ decision }) => decision === 'allowed');
  world.releases += allowed.length;
  const here = all.filter(({ ask }) => ask.service === number);
  for (const [app, { workload }] of world.apps.entries()) {
    for (const method of ['GetAppKey', 'GetKey'] as const) {
      const asked = here.filter(({ ask }) => ask.app === app && ask.method === method);
      const of = (outcome: Answered['outcome']): number =>
        asked.filter((one) => one.outcome === outcome).length;
      const records = allowed.filter(
        ({ event, app_id: id }) => event === EVENTS[method] && id === toHex(workload.appId),
      );
      const told = `${of('keys')} releases and ${of('unknown')} unknown, recorded: ${JSON.stringify(records)}`;
      expect(records.length, told).toBeGreaterThanOrEqual(of('keys'));
      expect(records.length, told).toBeLessThanOrEqual(of('keys') + of('unknown'));
      for (const record of records) await expectAllowedAtBlock(record, app, asked, model, world);
    }
  }
  const known = new Set(world.apps.map(({ workload }) => toHex(workload.appId)));
  expect(allowed.filter(({ event, app_id: id }) => event === 'kms-key' || !known.has(id))).toEqual([]);
}

async function expectAllowedAtBlock(
  record: AuditLine,
  app: number,
  asked: readonly Answered[],
  model: Model,
  world: World,
): Promise<void> {
  const { workload } = world.apps[app]!;
  expect(record.compose_hash).toBe(toHex(workload.composeHash));
  expect(record.key_epoch).toBe(model.epochs[app]!.epoch);
  const bearsOut = ({ ask, span, outcome }: Answered): boolean =>
    outcome !== 'refused' &&
    world.timeline
      .views(span, world.services[ask.service]!.reuseMs)
      .some((view) => view.head === record.block_number && isAppAllowed(view, app));
  const seen = asked.map(({ ask, span }) => ({
    span,
    views: world.timeline.views(span, world.services[ask.service]!.reuseMs),
  }));
  expect(asked.some(bearsOut), `${JSON.stringify(record)} of ${JSON.stringify(seen)}`).toBe(true);
  // And the chain itself says so, where it still has these blocks.
  const { timeline, services } = world;
  const isGone = ({ ask, span }: Answered): boolean =>
    timeline.wasReorganised({ ...span, ended: timeline.now }, services[ask.service]!.reuseMs);
  if (asked.some(isGone)) return;
  for (const block of [BigInt(record.block_number!), BigInt(record.block_number! - CONFIRMATIONS)]) {
    const address = hexOf(workload.appId);
    expect(await world.chain.isComposeHashAllowed(address, hexOf(workload.composeHash), block)).toBe(true);
  }
}
