/** Commands for a model-based test of key release: each changes real key services and a real chain, and the model with them. */
import fc from 'fast-check';
import { type Burst, runBurst } from './burst.ts';
import { applyChange, type Change, changes, type TimedChange } from './changes.ts';
import type { Ask } from './checks.ts';
import type { Model, World } from './model.ts';
import { type Replication, replicate } from './replication.ts';

type Command = fc.AsyncCommand<Model, World>;

const command = (name: string, shown: unknown, run: Command['run']): Command => ({
  check: () => true,
  run,
  toString: () => `${name}(${JSON.stringify(shown)})`,
});

/** One workload asks while nothing else happens. */
const boot = (ask: Ask): Command =>
  command('boot', ask, (model, world) => runBurst({ asks: [ask], changes: [], crash: null }, model, world));
const change = (what: Change): Command =>
  command('change', what, (model, world) => applyChange(what, model, world));
const burst = (what: Burst): Command =>
  command('burst', what, (model, world) => runBurst(what, model, world));
const replication = (what: Replication): Command =>
  command('replicate', what, (model, world) => replicate(what, model, world));

const restart = (service: number): Command =>
  command('restart', service, async (_, { services }) => {
    const { running } = services[service]!;
    if (running === undefined) return;
    await services[service]!.stop();
    await services[service]!.serve();
  });

/** What it signs now must fit whatever its log says later. */
const keepHead = (service: number): Command =>
  command('keepHead', service, (_, { services }) => services[service]!.keepHead());

type NewEpoch = { readonly app: number; readonly keepsPrevious: boolean };

/** The application gets new keys from now on; the services learn it at their next start. */
const raiseEpoch = ({ app, keepsPrevious }: NewEpoch): Command =>
  command('raiseEpoch', { app, keepsPrevious }, async ({ epochs }, { services, apps }) => {
    epochs[app] = { epoch: epochs[app]!.epoch + 1, keepsPrevious };
    for (const service of services) {
      service.configureEpochs(apps, epochs);
      if (service.running === undefined) continue;
      await service.stop();
      await service.serve();
    }
  });

/** Sequences of commands over so many applications and key services. */
export function kmsCommands(
  apps: number,
  services: number,
  replayPath?: string,
): fc.Arbitrary<Iterable<Command>> {
  const app = fc.nat({ max: apps - 1 });
  const service = fc.nat({ max: services - 1 });
  const soon = fc.nat({ max: 30 });
  const ask: fc.Arbitrary<Ask> = fc.record({
    service,
    app,
    method: fc.constantFrom('GetAppKey', 'GetAppKey', 'GetKey'),
    migrates: fc.boolean(),
    afterMs: soon,
  });
  const anyChange = changes(apps, services);
  const timed: fc.Arbitrary<TimedChange> = fc.record({ change: anyChange, afterMs: soon });
  const crash = fc.record({
    service,
    afterMs: fc.nat({ max: 60 }),
    againAfterMs: fc.option(fc.nat({ max: 500 })),
  });
  const calmBurst = fc.record({
    asks: fc.array(ask, { minLength: 1, maxLength: 12 }),
    changes: fc.array(timed, { maxLength: 5 }),
    crash: fc.constant(null),
  });
  const anyBurst = fc.record({
    asks: fc.array(ask, { minLength: 1, maxLength: 12 }),
    changes: fc.array(timed, { maxLength: 3 }),
    crash,
  });
  const times = (count: number, one: fc.Arbitrary<Command>) => Array.from({ length: count }, () => one);
  return fc.commands(
    [
      ...times(
        6,
        ask.map((one) => boot({ ...one, afterMs: 0 })),
      ),
      ...times(10, anyChange.map(change)),
      ...times(6, calmBurst.map(burst)),
      service.map(keepHead),
      fc.oneof(
        { weight: 3, arbitrary: anyBurst.map(burst) },
        { weight: 1, arbitrary: service.map(restart) },
        {
          weight: 2,
          arbitrary: fc
            .record({
              target: service,
              changes: fc.array(timed, { maxLength: 2 }),
              asks: fc.array(ask, { maxLength: 4 }),
              crashAfterMs: fc.option(fc.nat({ max: 300 }), { freq: 3 }),
            })
            .map(replication),
        },
        {
          weight: 1,
          arbitrary: fc.record({ app, keepsPrevious: fc.boolean() }).map(raiseEpoch),
        },
      ),
    ],
    { maxCommands: 40, size: 'max', ...(replayPath === undefined ? {} : { replayPath }) },
  );
}
