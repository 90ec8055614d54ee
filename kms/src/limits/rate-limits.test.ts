import fc from 'fast-check';
import { expect, test } from 'vitest';
import { checkConfig } from '../config/check-config.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import { type Consumed, rateLimits, type SharedRateLimits } from './rate-limits.ts';

const BURST = 5;
const PER_MINUTE = 60;
const metrics = createMetrics({ version: '0', simulated: true, imageVerified: true });
const config = checkConfig(
  { core: { rate_limit: { open_per_minute: PER_MINUTE, open_burst: BURST } } },
  { DSTACK_AGENT_ADDRESS: 'unix:/none' },
);

const isLetThrough = (limits: SharedRateLimits, address: string) => {
  try {
    limits.open(address);
    return true;
  } catch {
    return false;
  }
};

/** Processes that hear of each other's takes when `deliver` is called. */
function service(count: number) {
  let time = 0;
  const underWay: { from: number; taken: Consumed }[] = [];
  const processes = Array.from({ length: count }, (_, from) =>
    rateLimits(config, metrics, {
      now: () => time,
      onConsumed: (...taken) => underWay.push({ from, taken }),
    }),
  );
  return {
    processes,
    pass: (ms: number) => {
      time += ms;
    },
    deliver() {
      for (const { from, taken } of underWay.splice(0)) {
        for (const [to, limits] of processes.entries()) if (to !== from) limits.count([taken]);
      }
    },
  };
}

test('what one process lets through, the others count', () => {
  const { processes, deliver } = service(2);
  const [one, other] = processes as [SharedRateLimits, SharedRateLimits];
  for (let take = 0; take < BURST; take++) {
    expect(isLetThrough(take % 2 === 0 ? one : other, '192.0.2.1')).toBe(true);
    deliver();
  }
  expect(isLetThrough(one, '192.0.2.1')).toBe(false);
  expect(isLetThrough(other, '192.0.2.1')).toBe(false);
  expect(isLetThrough(other, '192.0.2.2')).toBe(true);
});

test('a process that begins has the buckets of the others', () => {
  const { processes } = service(1);
  const [one] = processes as [SharedRateLimits];
  for (let take = 0; take < BURST; take++) isLetThrough(one, '192.0.2.1');
  const begun = rateLimits(config, metrics, { now: () => 1e9 });
  begun.setLevels(one.levels());
  expect(isLetThrough(begun, '192.0.2.1')).toBe(false);
  expect(isLetThrough(begun, '192.0.2.2')).toBe(true);
});

test.each([
  ['2001:db8::1', '2001:db8::2:0:0:1', '2001:db8:0:1::1'],
  ['2001:db8:1::5', '2001:db8:1:0:ffff::1', '2001:db8:2::5'],
  ['::1', '::2:0:0:1', '1::1'],
  ['fe80::1%eth0', 'fe80::2%eth1', 'fe81::1'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::', '2001:db8:1:3::'],
])('%s and %s are one host however they are written, %s is another', (one, same, other) => {
  const [limits] = service(1).processes as [SharedRateLimits];
  for (let take = 0; take < BURST; take++) expect(isLetThrough(limits, one)).toBe(true);
  expect(isLetThrough(limits, same)).toBe(false);
  expect(isLetThrough(limits, other)).toBe(true);
});

test('what is taken before processes hear of each other is at most a burst for each, and is paid back', () => {
  const step = fc.oneof(
    fc.record({ at: fc.nat(2) }),
    fc.constant('deliver' as const),
    fc.record({ pass: fc.integer({ min: 1, max: 3_000 }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const { processes, pass, deliver } = service(3);
      let [passedMs, sinceDelivery, longest, through] = [0, 0, 0, 0];
      const earnedIn = (ms: number) => BURST + (ms * PER_MINUTE) / 60_000;
      for (const one of steps) {
        if (one === 'deliver') {
          deliver();
          sinceDelivery = 0;
        } else if ('pass' in one) {
          pass(one.pass);
          passedMs += one.pass;
          sinceDelivery += one.pass;
          longest = Math.max(longest, sinceDelivery);
        } else if (isLetThrough(processes[one.at]!, '192.0.2.1')) through += 1;
        // One bucket's worth, and for each other process what it could give while it had heard of nothing.
        expect(through).toBeLessThanOrEqual(earnedIn(passedMs) + 2 * earnedIn(longest) + 1e-6);
      }
      deliver();
      // Debts hold: as long as more went through than was earned, no process lets anything through.
      if (through > earnedIn(passedMs) - 1) {
        expect(processes.map((limits) => isLetThrough(limits, '192.0.2.1'))).toEqual([false, false, false]);
      }
    }),
  );
});
