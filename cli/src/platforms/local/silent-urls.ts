import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseAppCompose } from '@dstack-cloud/app';
import { memberOf, readComposeFile } from '@dstack-cloud/app/compose-file';
import type { Prepared } from '../../project/shared-files.ts';
import type { ProjectState } from '../../project/state-file.ts';
import type { Place } from '../platform.ts';

const WAIT_MS = 10_000;
const POLL_MS = 150;
/** A service that takes a connection and waits for words of another protocol is there. */
const LISTENS_MS = 1_500;

/** A sentence about each URL of a new deployment that does not answer within ten seconds. */
export async function silentUrls(
  { context }: Place,
  prepared: Prepared,
  state: ProjectState,
): Promise<readonly string[]> {
  const hasPorts = publishesPorts(prepared.files['app-compose.json']);
  const checked = Object.entries(state.urls).map(async ([name, url]) => {
    const isExpected = name !== 'app' || hasPorts;
    const reason = await whySilent(url, isExpected ? WAIT_MS : 0, context.signal);
    if (reason === undefined) return [];
    return [
      isExpected
        ? `${name}: ${url} does not answer (${reason}); see dstack-cloud logs`
        : `${name}: nothing answers at ${url}: no service publishes a port`,
    ];
  });
  return (await Promise.all(checked)).flat();
}

function publishesPorts(bytes: Uint8Array | undefined): boolean {
  const { runner, dockerComposeFile } = parseAppCompose(bytes ?? new Uint8Array());
  if (runner !== 'docker-compose' || dockerComposeFile === undefined) return false;
  const { services } = readComposeFile(dockerComposeFile);
  return [...services.values()].some((service) => memberOf(service, 'ports') !== undefined);
}

/** Undefined when it answers within the time. */
export async function whySilent(
  url: string,
  waitMs: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  const deadline = performance.now() + waitMs;
  for (;;) {
    const reason = await ask(url);
    if (reason === undefined || performance.now() >= deadline || signal.aborted) return reason;
    await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
  }
}

/** A proxy of an engine takes connections that nobody answers, so the first byte counts, or staying open. */
async function ask(url: string): Promise<string | undefined> {
  const { hostname, port, pathname } = new URL(url);
  return await new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port) });
    const done = (reason?: string): void => {
      socket.destroy();
      resolve(reason);
    };
    socket.setTimeout(LISTENS_MS, () => done(socket.connecting ? 'no connection' : undefined));
    socket.once('connect', () =>
      socket.write(`GET ${pathname} HTTP/1.1\r\nHost: ${hostname}\r\nConnection: close\r\n\r\n`),
    );
    socket.once('data', () => done());
    socket.once('end', () => done('the connection is closed without an answer'));
    socket.once('error', (error: NodeJS.ErrnoException) => done(error.code ?? error.message));
  });
}
