import { readFileBounded } from '@dstack-cloud/app';
import { utf8Text } from '@dstack-cloud/encoding';
import { isThere } from '@dstack-cloud/files';
import { containersFile, parseContainers } from '../runner/containers-file.ts';
import { DockerEngine } from './docker-engine.ts';
import { ProcessLogs } from './process-logs.ts';

/** One container of the application, or the plain process that stands for it. */
export interface ContainerInfo {
  readonly id: string;
  /** As Docker writes them, with a leading slash. */
  readonly names: readonly string[];
  readonly image: string;
  readonly imageId: string;
  /** Unix seconds. */
  readonly created: number;
  readonly state: string;
  readonly status: string;
}

/** Which part of a log is wanted. */
export interface LogQuery {
  /** Unix seconds; 0 = unbounded. */
  readonly since: number;
  readonly until: number;
  readonly follow: boolean;
  readonly timestamps: boolean;
  /** Number of lines, or `all`. */
  readonly tail: string;
}

/** A piece of output. */
export interface LogChunk {
  readonly channel: 'stdin' | 'stdout' | 'stderr' | 'console';
  readonly bytes: Uint8Array;
}

/** The application's containers: those of the engine, or the runner's processes when there is no engine. */
export interface Containers {
  /** @throws Error when neither can be reached */
  list(): Promise<readonly ContainerInfo[]>;
  /** @throws Error with the engine's text */
  logs(name: string, query: LogQuery, signal: AbortSignal): AsyncIterable<LogChunk>;
}

const MAX_LIST_BYTES = 256 * 1024;

/** Names that are passed on to an engine; anything else could leave the path of the request. */
export const CONTAINER_NAME: RegExp = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$/;

/**
 * Looks at each call which of the two runs, since the agent starts before the application.
 *
 * @param project the compose project, where other machines have containers in the same engine
 */
export function applicationContainers(
  runDir: string,
  logDir: string,
  dockerSocket: string,
  project?: string,
): Containers {
  const engine = new DockerEngine(dockerSocket, project);
  const processes = new ProcessLogs(logDir);
  const file = containersFile(runDir);
  return {
    list: async () => {
      if (!isThere(file)) return await engine.list();
      const list = parseContainers(utf8Text(await readFileBounded(file, MAX_LIST_BYTES)));
      return list.map(({ name, ...state }) => ({
        id: name,
        names: [`/${name}`],
        image: '',
        imageId: '',
        ...state,
      }));
    },
    logs: (name, query, signal) =>
      isThere(file) ? processes.logs(name, query, signal) : engine.logs(name, query, signal),
  };
}

/** Where Docker's API is: DOCKER_HOST when it names a Unix socket, else the usual path. */
export function dockerSocketPath(env: NodeJS.ProcessEnv): string {
  const host = env['DOCKER_HOST'] ?? '';
  return host.startsWith('unix://') ? host.slice('unix://'.length) : '/var/run/docker.sock';
}
