import { removeBootSecrets, writeFileAtomic } from '@dstack-cloud/app';
import { makeOwnDirectory, processIdentity, withLock } from '@dstack-cloud/files';
import { asVmmErrors, canonical, withMachine } from '../folder/machine-folder.ts';
import { makeRunFolder, removeRunFolder } from '../folder/run-folder.ts';
import { finishUpdate } from '../folder/shared-update.ts';
import { startHostApi } from '../host-api/host-api.ts';
import { LogFile } from '../logs/log-file.ts';
import type { MachineDriver } from '../machine-driver.ts';
import { type CvmManifest, readManifest, writeManifest } from '../manifest/manifest.ts';
import { cvmPaths, runPaths } from '../manifest/paths.ts';
import { choosePorts } from '../ports/choose-ports.ts';
import { guestConfig } from '../process/guest-config.ts';
import { Machine } from '../process/machine.ts';
import { Guard } from '../programs/guard.ts';
import { endMachineProcesses, machineMark } from '../programs/machine-processes.ts';
import { GuestNotes } from '../state/guest-notes.ts';
import { readState } from '../state/state.ts';
import { StateKeeper } from '../state/state-keeper.ts';
import { SUPERVISOR_LOCK } from '../state/supervisor-of.ts';
import { HOST_API_PORT, VirtualMachine } from '../vm/virtual-machine.ts';
import { hostSocket } from '../vm/vsock.ts';
import { cleanUpRun } from './clean-up-run.ts';
import { onOwnerGone } from './owner.ts';
import { watchFolders } from './watch-folders.ts';

const ORPHAN_GRACE_MS = 1_000;

/**
 * Runs one machine until it is told to stop (SIGTERM, SIGINT), its owner or its folder is gone, or one of its programs
 * ends. Returns the exit code. The caller has made this process the leader of its own session.
 *
 * @param hurry cuts short what a stop in order may take
 */
export async function supervise(
  directory: string,
  signal: AbortSignal,
  hurry: AbortSignal = new AbortController().signal,
): Promise<number> {
  const dir = canonical(directory);
  const lock = { waitMs: 0, what: `The machine in ${dir}`, signal };
  return await asVmmErrors(dir, () => withLock(dir, SUPERVISOR_LOCK, lock, () => run(dir, signal, hurry)));
}

interface Opened {
  readonly manifest: CvmManifest;
  readonly runDir: string;
  readonly keeper: StateKeeper;
}

async function run(dir: string, signal: AbortSignal, hurry: AbortSignal): Promise<number> {
  const { manifest, runDir, keeper } = await withMachine(dir, { signal }, () => open(dir));
  const paths = cvmPaths(dir);
  const runFiles = runPaths(runDir);
  const serial = new LogFile(paths.serial);
  const guard = new Guard(machineMark(dir));
  const watch = watchFolders([dir, runDir]);
  const stop = AbortSignal.any([signal, onOwnerGone(manifest.owner), watch.gone]);
  const notes = new GuestNotes(serial, keeper);
  const hostApi = await startHostApi(
    manifest.driver === 'vm' ? hostSocket(runDir, HOST_API_PORT) : runFiles.hostApi,
    (notification) => notes.take(notification),
  );
  let machine: MachineDriver | undefined;
  let failure: unknown;
  try {
    const ports = await choosePorts(manifest);
    await writeManifest(dir, ports.manifest);
    keeper.update({ ports: ports.named, urls: ports.urls });
    const options = { paths, run: runFiles, serial, guard, keeper };
    if (ports.manifest.driver === 'vm')
      machine = new VirtualMachine({ ...options, manifest: ports.manifest });
    else if (ports.manifest.driver === 'enclave') {
      const { Enclave } = await import('../enclave/enclave.ts');
      machine = new Enclave({ ...options, manifest: ports.manifest });
    } else {
      const config = guestConfig(ports.manifest, paths, runFiles, ports);
      await writeFileAtomic(paths.guestConfig, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
      machine = new Machine({ ...options, manifest: ports.manifest });
    }
    await machine.boot(stop);
    if (!stop.aborted) {
      keeper.update({ status: 'running', running_at: new Date().toISOString(), boot_progress: 'done' });
      // A machine of which nobody can see that it runs is not started.
      await keeper.flush();
      await machine.runUntil(stop);
    }
  } catch (error) {
    if (!stop.aborted) failure = error;
  }
  if (watch.gone.aborted && !signal.aborted) failure = watch.gone.reason;
  if (failure !== undefined) serial.append(`[host] ${message(failure)}`);
  watch.end();
  await machine?.stop(hurry);
  await endMachineProcesses(dir, ORPHAN_GRACE_MS);
  hostApi.closeAllConnections();
  hostApi.close();
  removeRunFolder(runDir, { id: manifest.id, dir });
  try {
    removeBootSecrets(paths.work);
  } catch (error) {
    serial.append(`[host] ${message(error)}`);
  }
  keeper.update({
    status: failure === undefined ? 'stopped' : 'failed',
    error: failure === undefined ? null : (keeper.bootError ?? message(failure)),
    supervisor: null,
    run_dir: null,
    urls: {},
    stopped_at: new Date().toISOString(),
  });
  await keeper.close();
  await guard.release();
  return failure === undefined ? 0 : 1;
}

/** Under the machine's lock: nobody else starts, stops, updates or removes it meanwhile. */
async function open(dir: string): Promise<Opened> {
  await finishUpdate(dir);
  const manifest = await readManifest(dir);
  const before = await readState(dir);
  await cleanUpRun(dir, before.run_dir);
  const paths = cvmPaths(dir);
  for (const folder of [paths.logs, paths.containerLogs, paths.guest]) makeOwnDirectory(folder);
  const runDir = makeRunFolder({ id: manifest.id, dir });
  const keeper = new StateKeeper(dir, {
    ...before,
    status: 'preparing',
    supervisor: processIdentity(process.pid) ?? null,
    run_dir: runDir,
    boot_progress: 'booting',
    error: null,
    instance_id: null,
    urls: {},
    started_at: new Date().toISOString(),
    running_at: null,
    stopped_at: null,
    events: [],
  });
  try {
    // On disk before anybody else may look.
    await keeper.flush();
  } catch (error) {
    removeRunFolder(runDir, { id: manifest.id, dir });
    throw error;
  }
  return { manifest, runDir, keeper };
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
