import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RuntimeEvent } from '../attestation.ts';
import { AttestationError } from '../errors.ts';
import { EVENT, isReservedEvent } from './event-names.ts';
import { checkSystemEvents, SYSTEM_EVENTS, type SystemEventRule, systemPayloads } from './system-events.ts';

const shortest = ({ bytes }: SystemEventRule): number => ('from' in bytes ? bytes.from : Math.max(...bytes));
const eventOf = (rule: SystemEventRule, length = shortest(rule)): RuntimeEvent => ({
  event: rule.name,
  payload: new Uint8Array(length).fill(0x3a),
});
/** One of each. */
const whole = SYSTEM_EVENTS.map((rule) => eventOf(rule));
const accepted = (events: readonly RuntimeEvent[]): boolean => {
  try {
    checkSystemEvents(events);
    return true;
  } catch (error) {
    expect(error).toBeInstanceOf(AttestationError);
    return false;
  }
};

describe('the list of system events', () => {
  it('is the one of docs/attestation.md', () => {
    const page = readFileSync(new URL('../../../../docs/attestation.md', import.meta.url), 'utf8');
    const section = page.split('## Events of the system')[1]!.split('\n## ')[0]!;
    const rows = [...section.matchAll(/^\| `([^`]+)` \| (.+) \|$/gm)].map(([, name, rest]) => [name, rest]);
    const written = SYSTEM_EVENTS.map(({ name, releases, required, atMost, bytes, meaning }) => {
      const times = required ? '1' : `0 to ${atMost}`;
      const lengths = 'from' in bytes ? `${bytes.from} to ${bytes.to}` : bytes.join(' or ');
      return [name, `${releases} | ${times} | ${lengths} | ${meaning}`];
    });
    expect(rows).toEqual(written);
  });

  it('has every name that the guest writes, and no application may', () => {
    expect(SYSTEM_EVENTS.map(({ name }) => name).sort()).toEqual(Object.values(EVENT).sort());
    expect(SYSTEM_EVENTS.every(({ name }) => isReservedEvent(name))).toBe(true);
    expect(isReservedEvent('gpu-of-tomorrow')).toBe(true);
    expect(isReservedEvent('app-id-of-mine')).toBe(false);
  });

  it('takes all of them, those that must be there alone, and a boot that is not over', () => {
    expect(accepted(whole)).toBe(true);
    expect(accepted(SYSTEM_EVENTS.filter(({ required }) => required).map((rule) => eventOf(rule)))).toBe(
      true,
    );
    const done = whole.findIndex(({ event }) => event === 'boot-mr-done');
    expect(accepted(whole.slice(0, done + 1))).toBe(true);
    expect(accepted(whole.slice(0, done))).toBe(false);
  });

  it.each(SYSTEM_EVENTS.map((rule) => [rule.name, rule] as const))(
    '%s: number, length, place',
    (name, rule) => {
      const at = whole.findIndex(({ event }) => event === name);
      const times = (count: number) => [
        ...whole.slice(0, at),
        ...Array.from({ length: count }, () => whole[at]!),
        ...whole.slice(at + 1),
      ];
      expect(accepted(times(0))).toBe(!rule.required);
      expect(accepted(times(rule.atMost))).toBe(true);
      // What follows the first `system-ready` is not the system's.
      expect(accepted(times(rule.atMost + 1))).toBe(name === 'system-ready');
      const bounds = 'from' in rule.bytes ? [rule.bytes.from - 1, rule.bytes.to + 1] : [1, 21, 33];
      for (const length of bounds) expect(accepted(whole.with(at, eventOf(rule, length)))).toBe(false);
    },
  );

  it('holds the order: no two may change places', () => {
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.nat(whole.length - 1), (a, b) => {
        fc.pre(a !== b);
        const moved = whole.with(a, whole[b]!).with(b, whole[a]!);
        const [first, last] = [Math.min(a, b), Math.max(a, b)];
        // Exchanged with `system-ready`, an event is the workload's, and what lay between too.
        const cut =
          whole[last]!.event === 'system-ready' && first > whole.findIndex((e) => e.event === 'boot-mr-done');
        expect(accepted(moved)).toBe(cut);
      }),
    );
  });

  it('lets no event of another name stand for one that is read', () => {
    const names = fc.string({ unit: 'binary', minLength: 1, maxLength: 24 });
    fc.assert(
      fc.property(names, fc.uint8Array({ maxLength: 40 }), fc.nat(whole.length - 1), (event, payload, at) => {
        fc.pre(!SYSTEM_EVENTS.some(({ name }) => name === event));
        const events = whole.toSpliced(at, 0, { event, payload });
        const plain = /^[a-z][a-z0-9-]*$/.test(event);
        const afterFreeze = at > whole.findIndex((item) => item.event === 'boot-mr-done');
        expect(accepted(events)).toBe(plain && afterFreeze);
        for (const { name } of SYSTEM_EVENTS) {
          expect(systemPayloads(events, name)).toEqual(systemPayloads(whole, name));
        }
      }),
      { numRuns: 300 },
    );
  });
});
