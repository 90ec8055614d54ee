import { mkdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { VmmError } from '../errors.ts';
import type { LogFile } from '../logs/log-file.ts';
import type { MachineDriver } from '../machine-driver.ts';
import type { ProcessManifest } from '../manifest/manifest.ts';
import type { CvmPaths, RunPaths } from '../manifest/paths.ts';
import { childEnvironment } from '../programs/child-environment.ts';
import { Component } from '../programs/component.ts';
import { componentFailed, untilListening } from '../programs/component-ready.ts';
import type { Guard } from '../programs/guard.ts';
import { MACHINE_MARK } from '../programs/machine-processes.ts';
import { resolveProgram } from '../programs/programs.ts';
import type { StateKeeper } from '../state/state-keeper.ts';

/** Key requests have their own time-outs (60 s a KMS URL); this is the last resort. */
const PREPARE_TIMEOUT_MS = 300_000;
const APP_STOP_GRACE_MS = 10_000;
const STOP_GRACE_MS = 3_000;

interface MachineOptions {
  readonly manifest: ProcessManifest;
  readonly paths: CvmPaths;
  readonly run: RunPaths;
  readonly serial: LogFile;
  readonly guard: Guard;
  readonly keeper: StateKeeper;
}

/** The programs of one machine, in the order in which a guest's services start. */
export class Machine implements MachineDriver {
  readonly #options: MachineOptions;
  readonly #running: Component[] = [];

  constructor(options: MachineOptions) {
    this.#options = options;
  }

  /** Starts everything; returns when the application runner says that the application is up. */
  async boot(stop: AbortSignal): Promise<void> {
    const { manifest, paths, run } = this.#options;
    await mkdir(paths.work, { recursive: true, mode: 0o700 });
    const tee = this.#start('tee', [
      ...resolveProgram('dstack-tee-simulator'),
      ...['tdx', '--seed-file', manifest.tee.seed_file, '--socket', run.tsm],
      ...['--state', paths.teeState, '--image', manifest.image, '--machine', manifest.tee.machine],
    ]);
    await untilListening(tee, run.tsm, stop);
    await this.#prepare(stop);
    if (stop.aborted) return;
    const config = ['--config', paths.guestConfig];
    const agent = this.#start('agent', [...resolveProgram('dstack-guest-agent'), ...config]);
    await untilListening(agent, run.dstack, stop);
    if (stop.aborted) return;
    const runner = this.#start('app', [...resolveProgram('dstack-app-runner'), ...config]);
    await this.#untilUp(runner, stop);
  }

  /** Waits until `stop` fires; throws when a program ends before. */
  async runUntil(stop: AbortSignal): Promise<void> {
    const stopped = new Promise<undefined>((resolve) => {
      if (stop.aborted) resolve(undefined);
      stop.addEventListener('abort', () => resolve(undefined), { once: true });
    });
    const ended = this.#running.map(async (component) => {
      const { code } = await component.exited;
      // A compose engine keeps the containers; its runner may end well.
      return component.name === 'app' && code === 0 ? await stopped : component;
    });
    const first = await Promise.race([stopped, ...ended]);
    if (first !== undefined && !stop.aborted) throw componentFailed(first, 'ended');
  }

  /** Ends all programs, the last started first. */
  async stop(): Promise<void> {
    while (this.#running.length > 0) {
      const component = this.#running.pop() as Component;
      await component.stop(component.name === 'app' ? APP_STOP_GRACE_MS : STOP_GRACE_MS);
    }
  }

  #start(name: string, command: readonly string[]): Component {
    const { paths, serial, guard } = this.#options;
    const component = new Component({
      name,
      command,
      env: { ...childEnvironment(), [MACHINE_MARK]: paths.dir },
      cwd: paths.dir,
      logPath: `${paths.logs}/${name}.log`,
      serial,
      guard,
    });
    this.#running.push(component);
    return component;
  }

  async #prepare(stop: AbortSignal): Promise<void> {
    const { paths } = this.#options;
    const prepare = this.#start('prepare', [
      ...resolveProgram('dstack-prepare'),
      ...['--config', paths.guestConfig],
    ]);
    const late = new AbortController();
    const timer = sleep(PREPARE_TIMEOUT_MS, 'late' as const, {
      signal: AbortSignal.any([stop, late.signal]),
    }).catch(() => 'stopped' as const);
    const result = await Promise.race([prepare.exited, timer]);
    late.abort();
    if (result === 'stopped') return;
    if (result === 'late')
      throw new VmmError('timeout', `Boot took longer than ${PREPARE_TIMEOUT_MS / 1000} s`);
    this.#running.splice(this.#running.indexOf(prepare), 1);
    if (result.code !== 0) throw componentFailed(prepare, 'failed');
  }

  /** The runner is up when it says so (`boot.progress`/`done`), or when it ended well. */
  async #untilUp(runner: Component, stop: AbortSignal): Promise<void> {
    const { keeper } = this.#options;
    while (!stop.aborted) {
      if (keeper.state.boot_progress === 'done') return;
      if (!runner.running) {
        const { code } = await runner.exited;
        if (code === 0) return;
        throw componentFailed(runner, 'failed');
      }
      await sleep(15);
    }
  }
}
