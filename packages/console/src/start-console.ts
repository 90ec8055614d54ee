import type { PlainResponse } from '@dstack-cloud/prpc';
import { listen, type ObserveOptions, type Observer, observe } from '@dstack-cloud/watcher';
import { LISTS, type ListName, listOf } from './lists.ts';
import { overviewOf } from './overview.ts';
import { consolePage } from './page/page.ts';

/** How a service or an app is. */
export type Health = {
  readonly kind: 'kms' | 'app';
  readonly name: string;
  readonly url: string;
  readonly ok: boolean;
  /** For people. */
  readonly text: string;
};

/** What the console shows, and where. */
export type ConsoleOptions = {
  readonly chain: ObserveOptions;
  /** Asked at most every few seconds, while somebody looks. */
  readonly health: () => Promise<readonly Health[]>;
  /** Loopback, unless another address is named. */
  readonly address?: string;
  /** 0 takes a free one. */
  readonly port: number;
};

/** A console that runs. */
export type RunningConsole = { readonly url: string; stop(): Promise<void> };

const HEALTH_REUSE_MS = 5_000;
const HEALTH_TIMEOUT_MS = 8_000;
const MAX_HEALTH = 200;

/** Follows the chain and serves the page. @throws WatcherError `listen-failed`, PolicyError `bad-configuration` */
export async function startConsole(options: ConsoleOptions): Promise<RunningConsole> {
  const observer = observe(options.chain);
  const health = reused(options.health);
  const api = (path: string, answer: (query: URLSearchParams) => Promise<unknown>) => ({
    path,
    handle: async (_: unknown, __: unknown, { query }: { query: string }): Promise<PlainResponse> => {
      const value = await answer(new URLSearchParams(query));
      return value === undefined
        ? { status: 400, body: 'No such list or page\n' }
        : { type: 'application/json', headers: { 'Cache-Control': 'no-store' }, body: JSON.stringify(value) };
    },
  });
  try {
    const listener = await listen({
      address: options.address ?? '127.0.0.1',
      port: options.port,
      routes: [
        ...consolePage(),
        { path: '/health', handle: () => ({ body: 'OK' }) },
        api('/api/overview', async () => overviewOf(observer, await health())),
        api('/api/list', async (query) => listFor(observer, query)),
      ],
    });
    return {
      url: listener.url,
      stop: async () => {
        await listener.stop();
        await observer.stop();
      },
    };
  } catch (error) {
    await observer.stop();
    throw error;
  }
}

function listFor(observer: Observer, query: URLSearchParams): unknown {
  const name = query.get('name') ?? '';
  const page = query.get('page') ?? '1';
  if (!Object.hasOwn(LISTS, name) || !/^\d{1,6}$/.test(page)) return undefined;
  return listOf(observer, name as ListName, Number(page));
}

/** One question for all who look; what takes too long, or fails, is told as it was. */
function reused(ask: () => Promise<readonly Health[]>): () => Promise<readonly Health[]> {
  let [last, until, running]: [readonly Health[], number, Promise<void> | undefined] = [[], 0, undefined];
  return async () => {
    if (performance.now() >= until)
      running ??= ask()
        .then(
          (found) => {
            last = found.slice(0, MAX_HEALTH);
          },
          () => undefined,
        )
        .finally(() => {
          until = performance.now() + HEALTH_REUSE_MS;
          running = undefined;
        });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, HEALTH_TIMEOUT_MS);
    });
    await Promise.race([running, late]);
    clearTimeout(timer);
    return last;
  };
}
