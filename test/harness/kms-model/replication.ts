/** A machine copies the root of another one, while the chain changes and it may be killed. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { answersTo } from './burst.ts';
import { applyChanges, type TimedChange } from './changes.ts';
import { type Ask, expectRecorded, expectRight } from './checks.ts';
import { isServiceAllowed, type Model, type World } from './model.ts';
import type { AuditLine, ModelService } from './service.ts';

export type Replication = {
  /** The machine that is emptied and asks; the other one gives. */
  readonly target: number;
  readonly changes: readonly TimedChange[];
  /** Asked of the giver meanwhile. */
  readonly asks: readonly Ask[];
  /** The target is killed so long after it was told to ask. */
  readonly crashAfterMs: number | null;
};

/** How long the giver may take to decide after the machine that asked was killed. */
const LAST_DECISION_MS = 2_000;
const POLL_MS = 50;

const rootOf = ({ host }: ModelService): Buffer => readFileSync(join(host.certDir, 'root-k256.key'));

/** The root goes whole to a machine that the policy allows, with one record of the giver, and to no other. */
export async function replicate(wanted: Replication, model: Model, world: World): Promise<void> {
  const { services, timeline } = world;
  const target = services[wanted.target]!;
  const number = services.findIndex((service) => service !== target);
  const source = services[number]!;
  if (source.running === undefined) return;
  await target.expectSoundLog();
  await target.wipe();
  const fresh = target.host.run();
  await fresh.until('onboarding listener started');
  const end = timeline.begin();
  const changed = applyChanges(wanted.changes, model, world);
  const asked = answersTo(
    wanted.asks.map((ask) => ({ ...ask, service: number })),
    model,
    world,
  );
  const crashed =
    wanted.crashAfterMs === null ? undefined : sleep(wanted.crashAfterMs).then(() => fresh.stop('SIGKILL'));
  const [answer, ...others] = await Promise.allSettled([
    fetch(`${fresh.onboardUrl}/prpc/Onboard.Onboard?json`, {
      method: 'POST',
      body: JSON.stringify({ source_url: source.running.url, domain: '127.0.0.1' }),
      signal: AbortSignal.timeout(20_000),
    }),
    changed,
    crashed,
    asked,
  ]);
  const span = end();
  for (const one of others) if (one.status === 'rejected') throw one.reason;

  const ok = answer.status === 'fulfilled' ? answer.value.ok : undefined;
  const told = `${JSON.stringify(wanted)}: ${ok === undefined ? 'unknown' : ok}`;
  if (ok === undefined) expect(wanted.crashAfterMs, told).not.toBeNull();
  const views = timeline.views(span, Math.max(source.reuseMs, target.reuseMs));
  const may = [number, wanted.target].every((one) => views.some((view) => isServiceAllowed(view, one)));
  const must =
    !timeline.wasReorganised(span) &&
    !timeline.mayLookBehind(span) &&
    timeline.views(span, 0).every((view) => [0, 1].every((one) => isServiceAllowed(view, one)));
  if (ok === true) expect(may, told).toBe(true);
  if (ok === false) expect(must, told).toBe(false);

  for (const one of await asked) expectRight(one, model, world);
  const isOfRoot = ({ event }: AuditLine): boolean => event === 'kms-key';
  const news = source.news();
  // Who asked is dead, but the giver may still be deciding.
  for (let waited = 0; ok === undefined && waited < LAST_DECISION_MS; waited += POLL_MS) {
    if (news.some(isOfRoot)) break;
    await sleep(POLL_MS);
    news.push(...source.news());
  }
  await expectRecorded(
    number,
    news.filter((line) => !isOfRoot(line)),
    await asked,
    model,
    world,
  );
  const records = news.filter((line) => isOfRoot(line) && line.decision === 'allowed');
  world.releases += records.length;
  if (ok === true) expect(records, told).toHaveLength(1);
  expect(records.length, told).toBeLessThanOrEqual(may ? 1 : 0);
  for (const record of records) {
    const borneOut = views.some(
      (view) => view.head === record.block_number && isServiceAllowed(view, wanted.target),
    );
    expect(borneOut, JSON.stringify(record)).toBe(true);
  }

  if (ok === true && wanted.crashAfterMs === null) await fetch(`${fresh.onboardUrl}/finish`);
  await fresh.stop('SIGKILL');
  if (ok === true) expect(target.hasKeys, told).toBe(true);
  if (ok === false) expect(target.hasKeys, told).toBe(false);
  if (!target.hasKeys) return;
  // Killed at any moment: what it has is the root, or nothing, and without a record there is no root.
  expect(records, told).toHaveLength(1);
  await target.serve();
  expect(rootOf(target).equals(rootOf(source)), told).toBe(true);
}
