import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  isAlive,
  isThere,
  type ProcessIdentity,
  processIdentity,
  removeAbandoned,
} from '@dstack-cloud/files';
import { VmmError } from '../errors.ts';
import { canonical, requireMachineFolder, withMachine } from '../folder/machine-folder.ts';
import { removeRunFolders } from '../folder/run-folder.ts';
import { finishUpdate } from '../folder/shared-update.ts';
import { readManifest } from '../manifest/manifest.ts';
import { cvmPaths } from '../manifest/paths.ts';
import { removeMachineVolumes } from '../process/machine-volumes.ts';
import { endMachineProcesses } from '../programs/machine-processes.ts';
import { sendSignal } from '../programs/send-signal.ts';
import { type CvmState, INITIAL_STATE, readState, writeState } from '../state/state.ts';
import { type CvmStatus, cvmStatus, isMachine } from '../state/status.ts';
import { supervisorOf, supervisorsOfGone } from '../state/supervisor-of.ts';
import { checkVm } from '../vm/check-vm.ts';
import { checkDataDisk } from '../vm/data-disk.ts';
import { requireFreeDevices } from '../vm/devices/device-plan.ts';
import { cleanUpRun } from './clean-up-run.ts';
import { type SpawnedSupervisor, spawnSupervisor } from './spawn-supervisor.ts';

const POLL_MS = 30;
const STOP_TIMEOUT_MS = 25_000;
/** A guest that shuts down without hardware acceleration, on a loaded machine; longer than its supervisor waits. */
const VM_STOP_TIMEOUT_MS = 150_000;
const KILL_TIMEOUT_MS = 5_000;
/** What an orphan gets to end by itself. */
const ORPHAN_GRACE_MS = 3_000;
/** Longer than every time-out inside the boot. */
const START_TIMEOUT_MS = 330_000;
/** What is checked and started before a virtual machine boots, and what is ended when it does not. */
const VM_START_EXTRA_MS = 180_000;
/** Tells a supervisor to end its machine without asking the guest. */
export const HURRY = 'SIGQUIT';

export interface StartOptions {
  /** Told about each new `boot.progress`. */
  readonly onProgress?: (progress: string) => void;
  readonly signal?: AbortSignal;
}

/**
 * Starts the machine in `dir` under a supervisor of its own and waits until it runs. Throws `boot_failed` with what
 * the guest reported; the supervisor has then ended and left nothing behind but the logs.
 */
export async function startCvm(directory: string, options: StartOptions = {}): Promise<CvmStatus> {
  const dir = canonical(directory);
  const supervisor = await withMachine(dir, lockOptions(options), () => launch(dir, options));
  let shown = '';
  const deadline = Date.now() + (await startTimeout(dir));
  for (;;) {
    const state = await readState(dir);
    const mine = state.run_dir !== null || state.status !== 'preparing';
    if (mine && state.boot_progress !== shown) {
      shown = state.boot_progress;
      if (state.status === 'preparing') options.onProgress?.(shown);
    }
    if (state.status === 'running') return await cvmStatus(dir);
    if (state.status === 'failed')
      throw new VmmError('boot_failed', state.error ?? 'The machine did not start');
    if (supervisor.exited()) throw await supervisorDied(dir);
    if (options.signal?.aborted === true || Date.now() > deadline) {
      await giveUp(dir, supervisor);
      throw new VmmError('timeout', 'The start was given up');
    }
    await sleep(POLL_MS);
  }
}

/** Starts the machine in `dir` under a supervisor of its own, and does not wait for its boot. Throws as `startCvm`. */
export async function launchCvm(directory: string): Promise<void> {
  const dir = canonical(directory);
  await withMachine(dir, {}, () => launch(dir, {}));
}

/**
 * Stops the machine in `dir` and all that runs of it: also without a supervisor, with a state that cannot be read, and
 * when its folder is gone. True when something ran.
 *
 * @param options.force does not ask the guest of a virtual machine to shut down
 */
export async function stopCvm(directory: string, options: { force?: boolean } = {}): Promise<boolean> {
  const dir = canonical(directory);
  if (!isThere(dir)) return await stopVanished(dir);
  return await withMachine(dir, { evenWhenFull: true }, () => stopLocked(dir, options.force === true));
}

/**
 * Removes a machine and all that is its own, also a damaged one: its files, and the volumes that an engine keeps for it.
 * Refuses while it runs, and when the engine does not answer.
 *
 * @param options.force leaves volumes where they are when the engine does not answer
 */
export async function removeCvm(directory: string, options: { force?: boolean } = {}): Promise<void> {
  const dir = canonical(directory);
  await requireMachineFolder(dir);
  if (!isMachine(dir)) throw new VmmError('not_found', `There is no machine in ${dir}: nothing was removed`);
  await withMachine(dir, { evenWhenFull: true }, async () => {
    const state = await stateIfReadable(dir);
    if (supervisorOf(dir, state) !== undefined) {
      const name = (await readManifest(dir).catch(() => undefined))?.name ?? dir;
      throw new VmmError('running', `${name} is running: stop it first`);
    }
    await endOrphans(dir);
    const manifest = await readManifest(dir).catch(() => undefined);
    if (manifest !== undefined)
      await removeMachineVolumes(manifest).catch((error: unknown) => {
        if (options.force !== true) throw error;
      });
    await rm(dir, { recursive: true, force: true });
  });
}

/** Under the machine's lock: ends what a killed supervisor left running. */
export async function endOrphans(dir: string): Promise<void> {
  const state = await stateIfReadable(dir);
  await endMachineProcesses(dir, ORPHAN_GRACE_MS);
  await cleanUpRun(dir, state?.run_dir ?? null);
}

/** Under the machine's lock: everything up to the moment at which the supervisor is on its own. */
async function launch(dir: string, options: StartOptions): Promise<SpawnedSupervisor> {
  await finishUpdate(dir);
  const manifest = await readManifest(dir);
  const before = await readState(dir);
  if (supervisorOf(dir, before) !== undefined)
    throw new VmmError('already_running', `${manifest.name} runs already`);
  options.signal?.throwIfAborted();
  if (manifest.driver === 'vm') {
    // The supervisor does so again; whoever starts it is told at once, and with the code.
    const { devices } = await checkVm(dir, manifest);
    await requireFreeDevices(devices);
    await checkDataDisk(cvmPaths(dir).dataDisk, manifest.vm.disk_size);
  }
  await endMachineProcesses(dir, ORPHAN_GRACE_MS);
  await cleanUpRun(dir, before.run_dir);
  removeAbandoned(join(dir, 'guest/dstack'));
  const preparing = { ...before, status: 'preparing', run_dir: null, error: null } as const;
  await writeState(dir, { ...preparing, supervisor: null });
  const supervisor = spawnSupervisor(dir);
  // Known before the supervisor itself can write it, so that a stop never misses it.
  await writeState(dir, { ...preparing, supervisor: processIdentity(supervisor.pid) ?? null });
  supervisor.begin();
  return supervisor;
}

async function startTimeout(dir: string): Promise<number> {
  const manifest = await readManifest(dir);
  return manifest.driver === 'vm' ? manifest.vm.boot_timeout * 1000 + VM_START_EXTRA_MS : START_TIMEOUT_MS;
}

async function stopTimeout(dir: string, force: boolean): Promise<number> {
  const manifest = await readManifest(dir).catch(() => undefined);
  return manifest?.driver === 'vm' && !force ? VM_STOP_TIMEOUT_MS : STOP_TIMEOUT_MS;
}

/** Its supervisor sees by itself that the folder is gone; whoever stops it waits for that. */
async function stopVanished(dir: string): Promise<boolean> {
  const supervisors = supervisorsOfGone(dir);
  for (const { pid } of supervisors) sendSignal(pid, 'SIGTERM');
  const ended = await endMachineProcesses(dir, ORPHAN_GRACE_MS);
  for (const supervisor of supervisors)
    if (!(await untilGone(supervisor, STOP_TIMEOUT_MS))) sendSignal(supervisor.pid, 'SIGKILL');
  removeRunFolders({ id: undefined, dir }, null);
  return ended + supervisors.length > 0;
}

async function stopLocked(dir: string, force: boolean): Promise<boolean> {
  const state = await stateIfReadable(dir);
  const supervisor = supervisorOf(dir, state);
  if (supervisor !== undefined) {
    sendSignal(supervisor.pid, force ? HURRY : 'SIGTERM');
    if (!(await untilGone(supervisor, await stopTimeout(dir, force)))) {
      sendSignal(supervisor.pid, 'SIGKILL');
      await untilGone(supervisor, KILL_TIMEOUT_MS);
    }
  }
  const orphans = await endMachineProcesses(dir, ORPHAN_GRACE_MS);
  const containers = await cleanUpRun(dir, state?.run_dir ?? null);
  const after = await stateIfReadable(dir);
  const isSettled = after?.status === 'stopped' || after?.status === 'failed';
  if (!isSettled || after.supervisor !== null || after.run_dir !== null) await settle(dir, after);
  return supervisor !== undefined || orphans + containers > 0;
}

/** A state that cannot be written, on a full disk, does not make a stopped machine run: whoever reads it sees that. */
async function settle(dir: string, state: CvmState | undefined): Promise<void> {
  const known = state ?? INITIAL_STATE;
  const status = known.status === 'failed' ? 'failed' : 'stopped';
  await writeState(dir, { ...known, status, supervisor: null, run_dir: null, urls: {} }).catch(
    () => undefined,
  );
}

async function stateIfReadable(dir: string): Promise<CvmState | undefined> {
  try {
    return await readState(dir);
  } catch (error) {
    if (error instanceof VmmError && error.code === 'damaged') return undefined;
    throw error;
  }
}

function lockOptions({ signal }: StartOptions): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

/** Ends a supervisor that we started, also one that has not yet said who it is. */
async function giveUp(dir: string, supervisor: SpawnedSupervisor): Promise<void> {
  sendSignal(supervisor.pid, 'SIGTERM');
  const deadline = Date.now() + STOP_TIMEOUT_MS;
  while (!supervisor.exited() && Date.now() < deadline) await sleep(POLL_MS);
  if (!supervisor.exited()) sendSignal(supervisor.pid, 'SIGKILL');
  await stopCvm(dir);
}

async function supervisorDied(dir: string): Promise<VmmError> {
  if (supervisorOf(dir, undefined) !== undefined)
    return new VmmError('already_running', `The machine in ${dir} was started by another command`);
  await stopCvm(dir);
  const state = await readState(dir);
  const stopped = state.status === 'stopped' && state.error === null ? 'it was stopped' : null;
  const reason = (await whyUnwritable(dir, state)) ?? state.error ?? stopped;
  const where = `see ${join(dir, 'logs/supervisor.log')}`;
  return new VmmError('start_failed', `The supervisor ended before the machine was up: ${reason ?? where}`);
}

/** On a full disk neither state nor log can say why. */
async function whyUnwritable(dir: string, state: CvmState): Promise<string | undefined> {
  try {
    await writeState(dir, state);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

async function untilGone(identity: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (isAlive(identity)) {
    if (Date.now() > deadline) return false;
    await sleep(POLL_MS);
  }
  return true;
}
