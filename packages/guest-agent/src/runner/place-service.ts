import { join, normalize, posix } from 'node:path';
import type { ProcessService, VolumeUse } from '@dstack-cloud/app/compose-file';
import { type AgentSockets, agentSocketOf } from '../script/app-environment.ts';

/** The folders of the machine that hold what its processes see at other paths. */
export interface ProcessFolders {
  /** Stands for the machine's root. */
  readonly root: string;
  readonly workDir: string;
  /** Outlives restarts: one folder for each service, and the named volumes. */
  readonly dataDir: string;
  /** Is removed with the run. */
  readonly runDir: string;
  readonly sockets: AgentSockets;
}

/** A path that a process expects, and where it lies. */
export interface PlacedPath {
  readonly target: string;
  readonly path: string;
}

/** Where the files of one service lie. */
export interface PlacedService {
  readonly home: string;
  readonly cwd: string;
  readonly volumes: readonly (PlacedPath & { readonly volume: VolumeUse; readonly isSocket: boolean })[];
  readonly files: readonly (PlacedPath & { readonly index: number; readonly isSecret: boolean })[];
}

/**
 * A plain process has no mounts, so what a container would see at a target lies somewhere in the machine's folder:
 * named volumes and bind mounts shared by their users, secrets in the run folder, the rest in the service's own.
 */
export function placeService(service: ProcessService, folders: ProcessFolders): PlacedService {
  const { name } = service;
  const home = join(folders.dataDir, name);
  const inHome = (path: string): string => join(home, normalize(`/${path}`));
  const volumes = service.volumes.map((volume) => {
    const { source, target } = volume;
    const socket = source === undefined ? undefined : agentSocketOf(source, folders.sockets);
    return {
      volume,
      target,
      isSocket: socket !== undefined,
      path: socket ?? volumePath(name, volume, folders) ?? inHome(target),
    };
  });
  const files = service.files.map(({ kind, target }, index) => {
    const isSecret = kind === 'secret';
    const path = isSecret ? join(folders.runDir, 'secrets', name, normalize(`/${target}`)) : inHome(target);
    return { index, isSecret, target, path };
  });
  const cwd =
    service.workingDir === undefined
      ? home
      : (placed(service.workingDir, volumes) ?? inHome(service.workingDir));
  return { home, cwd, volumes, files };
}

/** Undefined for an anonymous volume. */
function volumePath(
  service: string,
  { type, source, target }: VolumeUse,
  folders: ProcessFolders,
): string | undefined {
  if (type === 'tmpfs') return join(folders.runDir, 'tmp', service, normalize(`/${target}`));
  if (source === undefined) return undefined;
  return type === 'volume' ? join(folders.dataDir, '.volumes', source) : machinePath(source, folders);
}

/**
 * A path of the machine; one that is not absolute is relative to the compose file, which lies in `/dstack`. As in every
 * machine, `..` ends at its root.
 */
export function machinePath(
  source: string,
  { root, workDir, runDir }: Omit<ProcessFolders, 'sockets'>,
): string {
  const below = posix.resolve('/dstack', source.replace(/^~(?=\/|$)/, '/root'));
  const [, folder, rest = ''] = /^\/(dstack|(?:var\/)?run)(\/.*)?$/.exec(below) ?? [];
  if (folder === undefined) return join(root, below);
  return join(folder === 'dstack' ? workDir : runDir, rest);
}

function placed(path: string, volumes: readonly PlacedPath[]): string | undefined {
  const found = volumes
    .filter(({ target }) => path === target || path.startsWith(`${target.replace(/\/$/, '')}/`))
    .sort((a, b) => b.target.length - a.target.length)[0];
  return found && join(found.path, normalize(`/${path.slice(found.target.length)}`));
}

/** A character before a path that would make it the rest of a longer one. */
const BEFORE = '(?<![A-Za-z0-9_./~$%*})\\\\-])';
const AFTER = '(?![A-Za-z0-9_.-])';

/**
 * Replaces the paths that a process expects by where they lie, in its arguments and in the values of its environment. The
 * longest target counts; what only contains a target as a part of a longer path stays.
 */
export function relocator(paths: readonly PlacedPath[]): (text: string) => string {
  const places = new Map(
    paths
      .map(({ target, path }) => [target.replace(/\/+$/, ''), path] as const)
      .filter(([target]) => target.startsWith('/')),
  );
  if (places.size === 0) return (text) => text;
  const targets = [...places.keys()].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(`${BEFORE}(?:${targets.map(escaped).join('|')})${AFTER}`, 'g');
  return (text) => text.replace(pattern, (target) => places.get(target) ?? target);
}

function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}
