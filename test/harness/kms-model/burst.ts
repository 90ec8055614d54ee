/** Requests for keys, many at once, while the chain changes and a service is killed. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { callKms } from '../call-kms.ts';
import { applyChanges, type TimedChange } from './changes.ts';
import {
  type Answered,
  type Ask,
  expectOwnKeys,
  expectRecorded,
  expectRight,
  heldEpoch,
  type KeyAnswer,
} from './checks.ts';
import type { Model, World } from './model.ts';

export type Burst = {
  readonly asks: readonly Ask[];
  readonly changes: readonly TimedChange[];
  /** SIGKILL; and a second one, while it starts again. */
  readonly crash: { service: number; afterMs: number; againAfterMs: number | null } | null;
};

export async function runBurst(burst: Burst, model: Model, world: World): Promise<void> {
  const { crash } = burst;
  const answers = answersTo(burst.asks, model, world);
  const changed = applyChanges(burst.changes, model, world);
  const crashed = crash === null ? undefined : kill(crash, world);
  // All must have ended before the first failure is told: the next run finds a world at rest.
  for (const one of await Promise.allSettled([answers, changed, crashed])) {
    if (one.status === 'rejected') throw one.reason;
  }
  if (crash !== null) await revive(crash, world);
  const answered = await answers;
  for (const answer of answered) expectRight(answer, model, world, crash?.service);
  for (const [number, service] of world.services.entries()) {
    await expectRecorded(number, service.news(), answered, model, world);
  }
}

/** Asks, each in its time, and tells what came; nothing of services that do not run. */
export async function answersTo(asks: readonly Ask[], model: Model, world: World): Promise<Answered[]> {
  const answers = await Promise.all(asks.map((ask) => answerTo(ask, model, world)));
  return answers.filter((answer) => answer !== undefined);
}

type Crash = NonNullable<Burst['crash']>;

async function kill({ service, afterMs }: Crash, { services }: World): Promise<void> {
  await sleep(afterMs);
  await services[service]!.stop('SIGKILL');
}

async function revive({ service: number, againAfterMs }: Crash, { services }: World): Promise<void> {
  const service = services[number]!;
  if (!service.hasKeys) return;
  if (againAfterMs !== null) await service.crashStarting(againAfterMs);
  await service.serve();
}

async function answerTo(ask: Ask, model: Model, world: World): Promise<Answered | undefined> {
  await sleep(ask.afterMs);
  const { running } = world.services[ask.service]!;
  if (running === undefined) return undefined;
  const held = heldEpoch(ask, model);
  const body =
    ask.method === 'GetKey'
      ? { name: 'model' }
      : { api_version: 1, ...(held === undefined ? {} : { key_epoch: held }) };
  const end = world.timeline.begin();
  const answer = await callKms(running.url, ask.method, body, world.apps[ask.app]!.identity).catch(
    () => undefined,
  );
  const span = end();
  if (answer === undefined) return { ask, span, outcome: 'unknown', reason: '' };
  if (answer.status === 200) {
    expectOwnKeys(JSON.parse(answer.body) as KeyAnswer, ask, model, world);
    return { ask, span, outcome: 'keys', reason: '' };
  }
  expect(answer.status, answer.body).toBe(400);
  return { ask, span, outcome: 'refused', reason: answer.body };
}
