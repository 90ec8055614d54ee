import type { VerifiedAttestation } from '@dstack-cloud/attestation';
import { describe, expect, test } from 'vitest';
import { Turnstile } from './turnstile.ts';
import { VerdictCache } from './verdict-cache.ts';

const verdict = (validUntil: number): VerifiedAttestation => ({ validUntil }) as VerifiedAttestation;
const certificate = Uint8Array.of(1, 2, 3);

describe('VerdictCache', () => {
  function counting(validUntil: number) {
    let now = 1000;
    let judged = 0;
    const cache = new VerdictCache(() => now);
    return {
      at: (time: number) => {
        now = time;
      },
      get: (der = certificate, fails = false) =>
        cache.get(der, async () => {
          judged += 1;
          if (fails) throw new Error('refused');
          return verdict(validUntil);
        }),
      judged: () => judged,
    };
  }

  test('judges a certificate once in ten minutes, concurrent callers together', async () => {
    const { at, get, judged } = counting(10_000);
    await Promise.all([get(), get(), get()]);
    at(1599);
    await get();
    expect(judged()).toBe(1);
    at(1600);
    await get();
    expect(judged()).toBe(2);
    await get(Uint8Array.of(9));
    expect(judged()).toBe(3);
  });

  test('never outlives what the evidence was judged with, nor a clock that was set back', async () => {
    const short = counting(1100);
    await short.get();
    short.at(1101);
    await short.get();
    expect(short.judged()).toBe(2);
    const back = counting(10_000);
    await back.get();
    back.at(900);
    await back.get();
    expect(back.judged()).toBe(2);
  });

  test('keeps nothing of a refusal', async () => {
    const { get, judged } = counting(10_000);
    await expect(get(certificate, true)).rejects.toThrow('refused');
    await get();
    expect(judged()).toBe(2);
  });
});

describe('Turnstile', () => {
  test('runs so many at once, lets some wait, turns the rest away', async () => {
    const turnstile = new Turnstile(2);
    let running = 0;
    let most = 0;
    const release: (() => void)[] = [];
    const task = async (): Promise<void> => {
      running += 1;
      most = Math.max(most, running);
      await new Promise<void>((resolve) => release.push(resolve));
      running -= 1;
    };
    const started = Array.from({ length: 10 }, () => turnstile.run(task));
    await expect(turnstile.run(task)).rejects.toMatchObject({ code: 'UNAVAILABLE', status: 503 });
    let done = 0;
    const all = Promise.all(started.map((promise) => promise.then(() => (done += 1))));
    while (done < 10) {
      release.shift()?.();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await all;
    expect(most).toBe(2);
    await expect(turnstile.run(async () => 'free again')).resolves.toBe('free again');
  });

  test('a task that fails gives its place back', async () => {
    const turnstile = new Turnstile(1);
    await expect(turnstile.run(() => Promise.reject(new Error('x')))).rejects.toThrow('x');
    await expect(turnstile.run(async () => 1)).resolves.toBe(1);
  });
});
