import { readFileBounded } from '@dstack-cloud/app';
import { utf8Text } from '@dstack-cloud/encoding';
import { isThere } from '@dstack-cloud/files';
import type { Containers } from './containers.ts';
import { containersFile, parseContainers } from './containers-file.ts';
import { DockerEngine } from './docker-engine.ts';
import { ProcessLogs } from './process-logs.ts';

const MAX_LIST_BYTES = 256 * 1024;

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
