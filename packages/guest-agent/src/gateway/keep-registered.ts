import { setTimeout as sleep } from 'node:timers/promises';
import { errorChain } from '@dstack-cloud/runtime';
import type { NotifyHost } from '../host/host-api.ts';
import type { Logger } from '../log.ts';
import type { Tunnel } from './tunnel.ts';
import type { TunnelPlan } from './tunnel-plan.ts';

const POLL_MS = 10_000;
const REFRESH_MS = 180_000;
/** A tunnel without a handshake for so long is made anew, at the next gateway. */
const STALE_SECONDS = 180;
const FIRST_WAIT_MS = 30_000;
const LONGEST_WAIT_MS = 120_000;

export interface RegistrationOptions {
  /** In the order in which they are tried. */
  readonly urls: readonly string[];
  readonly register: (url: string) => Promise<TunnelPlan>;
  readonly tunnel: Tunnel;
  readonly notify: NotifyHost;
  readonly log: Logger;
  /** Unix seconds. */
  readonly now?: () => number;
  /** Milliseconds that never go back. */
  readonly clock?: () => number;
  readonly wait?: (ms: number, signal: AbortSignal) => Promise<unknown>;
  /** From 0 to below 1. */
  readonly random?: () => number;
}

/**
 * Registers at the first gateway that gives a tunnel, and again every three minutes; at the next one when no tunnel had a
 * handshake of late. What fails is told to the host and tried again, later and later: the machine goes on without a route.
 * Never rejects; ends when `signal` fires.
 */
export async function keepRegistered(options: RegistrationOptions, signal: AbortSignal): Promise<void> {
  const { tunnel, notify, log, wait = pause, random = Math.random } = options;
  const { now = unixNow, clock = () => performance.now() } = options;
  const urls = [...options.urls];
  let [dueAt, waitMs, hasRoute, isTold] = [Number.NEGATIVE_INFINITY, FIRST_WAIT_MS, false, false];
  /** Since when a handshake may be expected; unix seconds. */
  let expectedSince = 0;

  while (!signal.aborted) {
    const isStale = hasRoute && (await isSilent());
    if (isStale) {
      log.warn({ seconds: STALE_SECONDS }, 'No gateway answers through the tunnel; it is made anew');
      urls.push(urls.shift()!);
      expectedSince = now();
    }
    if (isStale || clock() >= dueAt) await attempt(isStale);
    await wait(Math.max(0, Math.min(POLL_MS, dueAt - clock())), signal).catch(() => undefined);
  }

  async function isSilent(): Promise<boolean> {
    const newest = await tunnel.newestHandshake().catch((error: unknown) => {
      log.warn({ error: errorChain(error) }, 'Handshakes cannot be read');
      return 0;
    });
    return now() - Math.max(newest, expectedSince) >= STALE_SECONDS;
  }

  async function attempt(renew: boolean): Promise<void> {
    try {
      const url = await registerAnywhere(renew);
      if (!hasRoute) {
        expectedSince = now();
        log.info({ url }, 'Registered at a gateway');
      }
      [hasRoute, isTold, waitMs] = [true, false, FIRST_WAIT_MS];
      dueAt = clock() + REFRESH_MS;
    } catch (error) {
      // Spread, so that the guests of a gateway that comes back do not all come at once.
      dueAt = clock() + waitMs * (0.75 + random() / 4);
      waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS);
      const why = errorChain(error);
      log.warn({ error: why, has_route: hasRoute }, 'No gateway gives a tunnel; they are asked again');
      if (isTold || hasRoute) return;
      isTold = true;
      await notify('boot.error', `no route by a gateway yet: ${why}`);
    }
  }

  /** @returns the URL that it was, which is the first to be asked from now on */
  async function registerAnywhere(renew: boolean): Promise<string> {
    const failures: string[] = [];
    for (const url of [...urls]) {
      try {
        await tunnel.apply(await options.register(url), renew);
        while (urls[0] !== url) urls.push(urls.shift()!);
        return url;
      } catch (error) {
        failures.push(`${url}: ${errorChain(error)}`);
      }
      if (signal.aborted) break;
    }
    throw new Error(failures.join('; '));
  }
}

function pause(ms: number, signal: AbortSignal): Promise<unknown> {
  return sleep(ms, undefined, { signal });
}

function unixNow(): number {
  return Math.floor(Date.now() / 1000);
}
