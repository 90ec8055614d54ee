import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { VmmError } from './errors.ts';
import { readManifest } from './manifest.ts';
import { isAlive, type ProcessIdentity, processIdentity, sendSignal } from './process-identity.ts';
import { resolveProgram } from './programs.ts';
import { type CvmState, readState, writeState } from './state.ts';
import { type CvmStatus, cvmStatus } from './status.ts';

const POLL_MS = 30;
const STOP_TIMEOUT_MS = 25_000;
/** Longer than every time-out inside the boot. */
const START_TIMEOUT_MS = 330_000;

export interface StartOptions {
  /** Told about each new `boot.progress`. */
  readonly onProgress?: (progress: string) => void;
  readonly signal?: AbortSignal;
}

/**
 * Starts the machine in `dir` under a supervisor of its own and waits until it runs. Throws `boot_failed` with what
 * the guest reported; the supervisor has then ended and left nothing behind but the logs.
 */
export async function startCvm(dir: string, options: StartOptions = {}): Promise<CvmStatus> {
  const manifest = await readManifest(dir);
  const before = await readState(dir);
  if (before.supervisor !== null && isAlive(before.supervisor))
    throw new VmmError('already_running', `${manifest.name} runs already`);
  options.signal?.throwIfAborted();
  await cleanRun(before);
  const preparing = { ...before, status: 'preparing', run_dir: null, error: null } as const;
  await writeState(dir, { ...preparing, supervisor: null });
  const supervisor = spawnSupervisor(dir);
  // Known before the supervisor itself can write it, so that a stop never misses it.
  await writeState(dir, { ...preparing, supervisor: processIdentity(supervisor.pid) ?? null });
  let shown = '';
  const deadline = Date.now() + START_TIMEOUT_MS;
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

/** Stops the machine in `dir`; true when it ran. */
export async function stopCvm(dir: string): Promise<boolean> {
  const state = await readState(dir);
  const supervisor = state.supervisor;
  if (supervisor === null || !isAlive(supervisor)) {
    await cleanRun(state);
    if (state.status !== 'stopped' && state.status !== 'failed')
      await writeState(dir, { ...state, status: 'stopped', supervisor: null, run_dir: null, urls: {} });
    return false;
  }
  sendSignal(supervisor.pid, 'SIGTERM');
  if (!(await untilGone(supervisor, STOP_TIMEOUT_MS))) {
    // Its guard ends what the supervisor started.
    sendSignal(supervisor.pid, 'SIGKILL');
    await untilGone(supervisor, 2_000);
    await sleep(2_500);
    await cleanRun(state);
    await writeState(dir, { ...state, status: 'stopped', supervisor: null, run_dir: null, urls: {} });
  }
  return true;
}

/** Removes a machine and all its files. Refuses while it runs (chapter 50 section 7.5). */
export async function removeCvm(dir: string): Promise<void> {
  const manifest = await readManifest(dir);
  const state = await readState(dir);
  if (state.supervisor !== null && isAlive(state.supervisor))
    throw new VmmError('running', `${manifest.name} is running: stop it first`);
  await cleanRun(state);
  await rm(dir, { recursive: true, force: true });
}

function spawnSupervisor(dir: string): { pid: number; exited: () => boolean } {
  const [program, ...args] = resolveProgram('dstack-vmm') as [string, ...string[]];
  mkdirSync(join(dir, 'logs'), { recursive: true, mode: 0o700 });
  const log = openSync(join(dir, 'logs/supervisor.log'), 'a', 0o600);
  const child = spawn(program, [...args, 'supervise', dir], {
    cwd: dir,
    detached: true,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  let gone = false;
  child.once('exit', () => {
    gone = true;
  });
  child.once('error', () => {
    gone = true;
  });
  child.unref();
  return { pid: child.pid ?? -1, exited: () => gone };
}

/** Ends a supervisor that we started, also one that has not yet said who it is. */
async function giveUp(dir: string, supervisor: { pid: number; exited: () => boolean }): Promise<void> {
  sendSignal(supervisor.pid, 'SIGTERM');
  const deadline = Date.now() + STOP_TIMEOUT_MS;
  while (!supervisor.exited() && Date.now() < deadline) await sleep(POLL_MS);
  if (!supervisor.exited()) sendSignal(supervisor.pid, 'SIGKILL');
  await stopCvm(dir);
}

async function supervisorDied(dir: string): Promise<VmmError> {
  const state = await readState(dir);
  if (state.status === 'preparing') await writeState(dir, { ...state, status: 'failed', supervisor: null });
  const reason = state.error ?? `see ${join(dir, 'logs/supervisor.log')}`;
  return new VmmError('start_failed', `The supervisor ended before the machine was up: ${reason}`);
}

async function cleanRun(state: CvmState): Promise<void> {
  if (state.run_dir?.includes('dstack-')) await rm(state.run_dir, { recursive: true, force: true });
}

async function untilGone(identity: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (isAlive(identity)) {
    if (Date.now() > deadline) return false;
    await sleep(POLL_MS);
  }
  return true;
}
