import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeFileAtomic } from '@dstack-cloud/app';
import { choosePorts } from './choose-ports.ts';
import { VmmError } from './errors.ts';
import { Guard } from './guard.ts';
import { guestConfig } from './guest-config.ts';
import { startHostApi } from './host-api.ts';
import { LogFile } from './log-file.ts';
import { Machine } from './machine.ts';
import { readManifest, writeManifest } from './manifest.ts';
import { onOwnerGone } from './owner.ts';
import { cvmPaths, runPaths } from './paths.ts';
import { isAlive, processIdentity } from './process-identity.ts';
import { readState } from './state.ts';
import { StateKeeper } from './state-keeper.ts';

/** Leaves room for `/dstack-XXXXXX/containers.sock` and the like. */
const MAX_TMPDIR = 64;

/**
 * Runs one machine until it is told to stop (SIGTERM, SIGINT), its owner is gone, or one of its programs ends.
 * Returns the exit code. The caller has made this process the leader of its own session.
 */
export async function supervise(dir: string, signal: AbortSignal): Promise<number> {
  const manifest = await readManifest(dir);
  const before = await readState(dir);
  if (before.supervisor !== null && before.supervisor.pid !== process.pid && isAlive(before.supervisor))
    throw new VmmError('already_running', `${manifest.name} runs already (process ${before.supervisor.pid})`);

  const paths = cvmPaths(dir);
  await mkdir(paths.containerLogs, { recursive: true, mode: 0o700 });
  const runDir = await makeRunDir();
  const run = runPaths(runDir);
  const serial = new LogFile(paths.serial);
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
  const guard = new Guard();
  const stop = AbortSignal.any([signal, onOwnerGone(manifest.owner)]);
  const hostApi = await startHostApi(run.hostApi, (notification) => {
    serial.append(`[host] ${notification.event}: ${notification.payload}`);
    keeper.notified(notification);
  });
  const machine = new Machine({ manifest, paths, run, serial, guard, keeper });
  let failure: unknown;
  try {
    const ports = await choosePorts(manifest);
    await writeManifest(dir, ports.manifest);
    keeper.update({ ports: ports.named, urls: ports.urls });
    const config = guestConfig(ports.manifest, paths, run, ports);
    await writeFileAtomic(paths.guestConfig, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
    await machine.boot(stop);
    if (!stop.aborted) {
      keeper.update({ status: 'running', running_at: new Date().toISOString(), boot_progress: 'done' });
      await machine.runUntil(stop);
    }
  } catch (error) {
    if (!stop.aborted) failure = error;
  }
  if (failure !== undefined) serial.append(`[host] ${message(failure)}`);
  await machine.stop();
  hostApi.closeAllConnections();
  hostApi.close();
  await rm(runDir, { recursive: true, force: true });
  keeper.update({
    status: failure === undefined ? 'stopped' : 'failed',
    error: failure === undefined ? null : (keeper.bootError ?? message(failure)),
    supervisor: null,
    run_dir: null,
    urls: {},
    stopped_at: new Date().toISOString(),
  });
  await keeper.flush();
  await guard.release();
  return failure === undefined ? 0 : 1;
}

/** A folder for the sockets; a socket path has 107 bytes at most, so a long TMPDIR cannot hold it. */
async function makeRunDir(): Promise<string> {
  const base = tmpdir().length <= MAX_TMPDIR ? tmpdir() : '/tmp';
  return await mkdtemp(join(base, 'dstack-'));
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
