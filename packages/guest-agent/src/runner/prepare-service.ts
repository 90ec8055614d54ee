import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { writeFileAtomic } from '@dstack-cloud/app';
import type { ProcessService as PlannedService } from '@dstack-cloud/app/compose-file';
import { GuestError } from '../errors.ts';
import { baseEnvironment, socketVariables } from '../script/app-environment.ts';
import { isBelow, makeInside } from './make-inside.ts';
import { ownProgram } from './own-program.ts';
import { type PlacedService, type ProcessFolders, placeService, relocator } from './place-service.ts';
import type { ProcessRunOptions } from './process-run-options.ts';
import { ProcessService } from './process-service.ts';
import { serviceContent } from './service-content.ts';
import { ServiceLog } from './service-log.ts';

/** Longest wait for a service to end by itself; whoever stops us waits little longer. */
const MAX_GRACE_MS = 8_000;

/** Makes the folders and files of a service, and the process that will run it. */
export async function prepareService(
  service: PlannedService,
  options: ProcessRunOptions,
  ownsPort: boolean,
  onChange: () => void,
): Promise<ProcessService> {
  const { folders, say } = options;
  const { name } = service;
  const placed = placeService(service, folders);
  makeFolders(service, placed, folders);
  await writeFiles(service, placed, options);
  const relocate = relocator([...placed.volumes, ...placed.files]);
  const { PORT: port, ...extra } = options.extraEnv;
  const own = [...service.environment].map(([key, value]) => [key, relocate(value)] as const);
  const env: Record<string, string> = {
    ...baseEnvironment(options.machineEnv),
    HOME: placed.home,
    ...Object.fromEntries(own),
    ...extra,
    ...(ownsPort && port !== undefined ? { PORT: port } : {}),
    ...socketVariables(
      service.volumes.map(({ source }) => source),
      folders.sockets,
    ),
  };
  const endpoint = env['DSTACK_SIMULATOR_ENDPOINT'];
  if (endpoint !== undefined) say(`Service ${name}: dstack.sock is at DSTACK_SIMULATOR_ENDPOINT=${endpoint}`);
  for (const { target, path, isSocket } of placed.volumes)
    if (!isSocket) say(`Service ${name}: ${target} is ${path}`);
  const [program = '', ...args] = service.argv.map(relocate);
  return new ProcessService({
    name,
    argv: [...(ownProgram(program, { ...options.machineEnv, ...extra }) ?? [program]), ...args],
    cwd: placed.cwd,
    env,
    restart: service.restart,
    stopSignal: service.stopSignal,
    stopGraceMs: Math.min(service.stopGraceMs, MAX_GRACE_MS),
    log: new ServiceLog(join(options.logDir, `${name}.log`)),
    onChange,
    say,
  });
}

function makeFolders({ name }: PlannedService, placed: PlacedService, folders: ProcessFolders): void {
  makeFolder(placed.home, folders);
  for (const { volume, path, isSocket } of placed.volumes) {
    if (isSocket || existsSync(path)) continue;
    if (volume.type === 'bind' && !volume.isShort)
      throw new GuestError(
        'start-failed',
        `Service ${name}: ${volume.source} does not exist in the machine`,
        {
          expected: path,
        },
      );
    makeFolder(path, folders);
  }
  makeFolder(placed.cwd, folders);
}

/** Below whichever folder of the machine it lies in, and nowhere else. */
function makeFolder(path: string, { dataDir, workDir, runDir, root }: ProcessFolders): void {
  const base = [dataDir, workDir, runDir, root].find((folder) => isBelow(folder, path)) ?? root;
  makeInside(base, path);
}

async function writeFiles(
  service: PlannedService,
  placed: PlacedService,
  { folders, variables }: ProcessRunOptions,
): Promise<void> {
  for (const { index, path, isSecret } of placed.files) {
    const file = service.files[index];
    if (file === undefined) continue;
    const content = await serviceContent(service.name, file, variables, folders);
    makeInside(isSecret ? folders.runDir : placed.home, dirname(path));
    await writeFileAtomic(path, content, { mode: file.mode });
  }
}
