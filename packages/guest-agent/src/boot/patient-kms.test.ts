import { describe, expect, it } from 'vitest';
import { GuestError, type GuestErrorCode } from '../errors.ts';
import { createLogger } from '../log.ts';
import { patiently } from './patient-kms.ts';

const log = createLogger('test');

/** Asks with a clock that only waiting moves. */
async function asked(answers: readonly (GuestErrorCode | 'keys')[], ms = 300_000) {
  let time = 0;
  const waits: number[] = [];
  let rounds = 0;
  const result = await patiently(
    async () => {
      const answer = answers[Math.min(rounds++, answers.length - 1)]!;
      if (answer === 'keys') return 'keys';
      throw new GuestError(answer, answer);
    },
    log,
    {
      ms,
      now: () => time,
      wait: async (pause) => {
        waits.push(pause);
        time += pause;
      },
    },
  ).catch((error: GuestError) => error.code);
  return { result, rounds, waits };
}

describe('keys are asked for again', () => {
  it('while no key service answers or none can decide', async () => {
    expect(await asked(['kms-unreachable', 'kms-unavailable', 'keys'])).toMatchObject({
      result: 'keys',
      rounds: 3,
    });
  });
  it('later and later, and not for ever', async () => {
    const { result, waits } = await asked(['kms-unreachable']);
    expect(result).toBe('kms-unreachable');
    expect(waits[0]).toBeLessThanOrEqual(1000);
    expect(waits.at(-1)).toBeGreaterThanOrEqual(15_000);
    expect(Math.max(...waits)).toBeLessThanOrEqual(30_000);
    expect(waits.reduce((sum, one) => sum + one)).toBeLessThanOrEqual(300_000);
  });
  it.each(['kms-refused', 'kms-untrusted', 'key-provider-mismatch', 'evidence-failed'] as const)(
    'but not after %s',
    async (code) => expect(await asked([code, 'keys'])).toMatchObject({ result: code, rounds: 1 }),
  );
});
