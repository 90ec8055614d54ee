import { once } from 'node:events';
import { readFileBounded, type SysConfig, writeFileAtomic } from '@dstack-cloud/app';
import { utf8Text } from '@dstack-cloud/encoding';
import type { GuestConfig } from '../config/guest-config.ts';
import { GuestError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { disarmDocker, dockerRoot } from './disarm-docker.ts';
import { type MachineHost, mustRun } from './disk/machine-host.ts';

const DAEMON_FILE = '/etc/docker/daemon.json';
const MAX_JSON = 1024 * 1024;
const DOCKER_STARTS = 4;

/**
 * Starts Docker on the open disk. Containers of an earlier boot do not start by themselves: only what this boot measured
 * runs.
 *
 * @throws GuestError `disk-failed`
 */
export async function startDocker(
  { dataDir }: Pick<GuestConfig, 'dataDir'>,
  { dockerRegistry }: Pick<SysConfig, 'dockerRegistry'>,
  host: MachineHost,
  log: Logger,
  daemonFile: string = DAEMON_FILE,
): Promise<void> {
  await disarmDocker(dockerRoot(dataDir), log);
  if (dockerRegistry !== undefined) await useMirror(dockerRegistry, daemonFile);
  await mustRun(host, 'systemctl', ['start', '--no-block', 'docker.service']);
}

/**
 * Waits until Docker serves. It has limits of its own for what it starts from, which a machine that emulates its processor
 * may exceed, so a failed start is tried again a few times.
 *
 * @throws GuestError `disk-failed` with what the service manager says of it. Docker's own log stays in the machine's
 *   journal: it can quote what belongs to the application, and errors and the console reach the host.
 * @throws the reason of `signal`, at once when it is aborted
 */
export async function dockerReady(host: MachineHost, log: Logger, signal: AbortSignal): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    signal.throwIfAborted();
    const done = new AbortController();
    try {
      const started = mustRun(host, 'systemctl', ['start', 'docker.service']);
      // A machine that is told to stop ends Docker's start too; nobody waits for it here.
      await Promise.race([started, once(signal, 'abort', { signal: done.signal })]);
      signal.throwIfAborted();
      return;
    } catch (cause) {
      signal.throwIfAborted();
      const result = await startResult(host);
      if (attempt === DOCKER_STARTS) {
        throw new GuestError(
          'disk-failed',
          `Docker does not start (${result}) in ${DOCKER_STARTS} attempts; start the machine again, with more memory or processors where it took too long, or look at Docker’s log in a development image`,
          { cause },
        );
      }
      log.warn({ attempt, result }, 'Docker did not start; trying again');
    } finally {
      done.abort();
    }
  }
}

/** How the last start of Docker ended, as one of the words of systemd.exec(5), `$SERVICE_RESULT`. */
async function startResult(host: MachineHost): Promise<string> {
  const ran = await host
    .run('systemctl', ['show', 'docker.service', '--property=Result'])
    .catch(() => undefined);
  return /^Result=([a-z-]{1,32})$/m.exec(ran?.stdout ?? '')?.[1] ?? 'unknown';
}

/** The image's own settings with a mirror of the registry; what it serves is named by digest or trusted by nobody. */
async function useMirror(url: string, file: string): Promise<void> {
  const settings = JSON.parse(utf8Text(await readFileBounded(file, MAX_JSON))) as object;
  await writeFileAtomic(file, `${JSON.stringify({ ...settings, 'registry-mirrors': [url] }, null, 2)}\n`, {
    mode: 0o644,
  });
}
