import { readdir, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { basename, dirname, join, resolve } from 'node:path';
import { printable } from '@dstack-cloud/encoding';
import { isThere } from '@dstack-cloud/files';
import { type Command, requiredText } from '../command-line/command.ts';
import { UtilError } from '../errors.ts';
import { readNamedFile } from '../files.ts';

const MAX_COMPOSE = 1024 * 1024;
const MAX_CONFIG = 4 * 1024 * 1024;
const MAX_ANSWER = 16 * 1024 * 1024;
const TIMEOUT_MS = 60_000;
const PROJECT = 'com.docker.compose.project';
const SERVICE = 'com.docker.compose.service';
const CONTAINER_ID = /^[0-9a-f]{64}$/;

export const removeOrphans: Command = {
  name: 'remove-orphans',
  about: 'Remove orphaned containers',
  options: [
    {
      name: 'compose',
      short: 'f',
      value: 'COMPOSE',
      help: 'path to the docker-compose.yaml file',
      required: true,
    },
    { name: 'dry-run', short: 'n', help: 'show what would be removed without actually removing' },
    {
      name: 'no-dockerd',
      help: 'Offline mode: operate without Docker daemon by directly reading Docker data directory',
    },
    {
      name: 'docker-root',
      short: 'd',
      value: 'DOCKER_ROOT',
      help: 'Docker data root directory for offline mode (default: /var/lib/docker)',
      default: '/var/lib/docker',
    },
  ],
  async run(values) {
    const project = await readProject(requiredText(values, 'compose'));
    const docker = requiredText(values, 'docker-root');
    const engine = values['no-dockerd'] ? offlineEngine(docker) : dockerEngine();
    for (const container of await engine.list()) {
      if (container.project !== project.name || container.service === undefined) continue;
      if (project.services.has(container.service)) continue;
      const named = `orphaned container ${container.service} ${container.shown}`;
      process.stdout.write(
        `${printable(values['dry-run'] ? `would remove ${named}` : `removing ${named}`)}\n`,
      );
      if (!values['dry-run']) await engine.remove(container.id);
    }
  },
};

interface Container {
  readonly id: string;
  /** The id as it is printed. */
  readonly shown: string;
  readonly project: string | undefined;
  readonly service: string | undefined;
}

interface Engine {
  list(): Promise<Container[]>;
  remove(id: string): Promise<void>;
}

async function readProject(path: string): Promise<{ name: string; services: ReadonlySet<string> }> {
  const bytes = await readNamedFile(path, 'failed to read docker-compose file', MAX_COMPOSE);
  try {
    const { memberOf, readComposeFile } = await import('@dstack-cloud/app/compose-file');
    const { root, services } = readComposeFile(new TextDecoder().decode(bytes), path);
    const name = memberOf(root, 'name');
    const own = name?.kind === 'scalar' ? name.text : null;
    return { name: own ?? basename(dirname(resolve(path))), services: new Set(services.keys()) };
  } catch (cause) {
    if (/the file has no services/.test((cause as Error).message))
      throw new UtilError("missing or invalid 'services' field");
    throw new UtilError('failed to parse YAML', cause);
  }
}

/** The folders of an engine that does not run. */
function offlineEngine(root: string): Engine {
  const folder = join(root, 'containers');
  return {
    async list() {
      if (!isThere(folder)) return [];
      const found: Container[] = [];
      for (const id of (await readdir(folder)).sort()) {
        const file = join(folder, id, 'config.v2.json');
        if (!CONTAINER_ID.test(id) || !isThere(file)) continue;
        try {
          const bytes = await readNamedFile(file, `Failed to read ${file}`, MAX_CONFIG);
          const config = JSON.parse(new TextDecoder().decode(bytes)) as { Config?: { Labels?: unknown } };
          found.push({ id, shown: id.slice(0, 12), ...labelled(config.Config?.Labels) });
        } catch (error) {
          const reason =
            error instanceof SyntaxError ? `Failed to parse ${file}: ${error.message}` : String(error);
          process.stderr.write(`Warning: ${printable(reason)}\n`);
        }
      }
      return found;
    },
    remove: async (id) => await rm(join(folder, id), { recursive: true }),
  };
}

/** The engine at its socket (Docker Engine API 1.41). */
function dockerEngine(): Engine {
  const host = process.env['DOCKER_HOST'] ?? 'unix:///var/run/docker.sock';
  const socketPath = host.replace(/^unix:\/\//, '');
  const connected = <T>(work: Promise<T>): Promise<T> =>
    work.catch((cause: unknown) => {
      throw new UtilError('Failed to connect to Docker daemon', cause);
    });
  return {
    async list() {
      if (!isThere(socketPath))
        throw new UtilError(
          'Failed to connect to Docker daemon',
          new UtilError(`Socket not found: ${socketPath}`),
        );
      const answer = await connected(ask(socketPath, 'GET', '/containers/json?all=true'));
      const list = JSON.parse(answer) as { Id: string; Labels?: unknown }[];
      return list
        .filter(({ Id }) => CONTAINER_ID.test(Id))
        .map(({ Id, Labels }) => ({ id: Id, shown: Id, ...labelled(Labels) }));
    },
    remove: async (id) => void (await connected(ask(socketPath, 'DELETE', `/containers/${id}?force=true`))),
  };
}

function labelled(labels: unknown): Pick<Container, 'project' | 'service'> {
  const of = (name: string): string | undefined => {
    const value = (labels as Record<string, unknown> | null | undefined)?.[name];
    return typeof value === 'string' ? value : undefined;
  };
  return { project: of(PROJECT), service: of(SERVICE) };
}

function ask(socketPath: string, method: string, path: string): Promise<string> {
  return new Promise((done, reject) => {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const call = request({ socketPath, method, path, signal, headers: { host: 'docker' } }, (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > MAX_ANSWER) response.destroy(new Error('the answer is too long'));
        else chunks.push(chunk);
      });
      response.once('error', reject);
      response.once('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        if ((response.statusCode ?? 500) < 300) done(text);
        else reject(new Error(`the engine answers ${response.statusCode}: ${text.slice(0, 512)}`));
      });
    });
    call.once('error', reject);
    call.end();
  });
}
