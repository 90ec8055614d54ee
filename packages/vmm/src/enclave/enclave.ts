import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openSource, type Section, type UnpackedApplication, unpackApplication } from '@dstack-cloud/eif';
import { toHex } from '@dstack-cloud/encoding';
import { VmmError } from '../errors.ts';
import type { LogFile } from '../logs/log-file.ts';
import type { MachineDriver } from '../machine-driver.ts';
import { proxyConfigText } from '../manifest/enclave-settings.ts';
import type { EnclaveManifest } from '../manifest/manifest.ts';
import type { CvmPaths, RunPaths } from '../manifest/paths.ts';
import { childEnvironment } from '../programs/child-environment.ts';
import { Component } from '../programs/component.ts';
import { componentFailed, untilListening, untilReady } from '../programs/component-ready.ts';
import type { Guard } from '../programs/guard.ts';
import { MACHINE_MARK, machineMark } from '../programs/machine-processes.ts';
import { resolveProgram } from '../programs/programs.ts';
import { sendSignal } from '../programs/send-signal.ts';
import type { StateKeeper } from '../state/state-keeper.ts';
import { checkEnclaveImage } from './enclave-image.ts';
import {
  enclaveCommand,
  firstProcess,
  hostEnvironment,
  requireEnclavePrograms,
} from './enclave-processes.ts';
import { type EnclaveReport, serveParent } from './parent.ts';

/** An image without `dstack-enclave-init` says nothing: it runs when it has run for so long. */
const SILENT_MS = 20_000;
const STOP_GRACE_MS = 5_000;
const SERVICE_GRACE_MS = 3_000;
const POLL_MS = 15;

interface EnclaveOptions {
  readonly manifest: EnclaveManifest;
  readonly paths: CvmPaths;
  readonly run: RunPaths;
  readonly serial: LogFile;
  readonly guard: Guard;
  readonly keeper: StateKeeper;
}

/**
 * An enclave image on a host without enclaves: it is measured as the hypervisor does, a simulated security module says
 * that it has the image's registers, and its files run as processes that reach nothing but the host's proxy. Nothing of
 * it outlives its end.
 */
export class Enclave implements MachineDriver {
  readonly #options: EnclaveOptions;
  readonly #root: string;
  readonly #devices: string;
  readonly #services: Component[] = [];
  #application: Component | undefined;
  #parent: { close(): Promise<void> } | undefined;
  #isUp = false;
  #last: EnclaveReport | undefined;

  constructor(options: EnclaveOptions) {
    this.#options = options;
    this.#root = join(options.paths.guest, 'enclave');
    this.#devices = join(options.run.dir, 'enclave');
  }

  async boot(stop: AbortSignal): Promise<void> {
    const { manifest, paths, serial } = this.#options;
    requireEnclavePrograms();
    const file = join(paths.dir, manifest.enclave.file);
    const { pcrs, osImageHash, sections } = await checkEnclaveImage(file);
    if (osImageHash !== manifest.image)
      throw new VmmError('bad_image', `${file} is not the image that was deployed`, {
        expected: manifest.image,
        found: osImageHash,
      });
    serial.append(`[host] OS_IMAGE_HASH 0x${osImageHash}`);
    const application = await this.#unpack(file, sections);
    await mkdir(this.#devices, { mode: 0o700 });
    const vsock = join(this.#devices, 'vm.vsock');
    this.#parent = await serveParent(vsock, (report) => this.#reported(report));
    const module = this.#service('nsm', [
      ...resolveProgram('dstack-tee-simulator'),
      ...['nsm', '--seed-file', manifest.tee.seed_file, '--machine', manifest.tee.machine],
      ...['--socket', join(this.#devices, 'nsm.sock')],
      ...[
        ['--pcr0', toHex(pcrs.pcr0)],
        ['--pcr1', toHex(pcrs.pcr1)],
        ['--pcr2', toHex(pcrs.pcr2)],
      ].flat(),
    ]);
    await untilListening(module, join(this.#devices, 'nsm.sock'), stop);
    await this.#startProxy(vsock, stop);
    if (stop.aborted) return;
    this.#application = this.#start(
      'enclave',
      enclaveCommand({
        root: this.#root,
        devices: this.#devices,
        ...application,
        mark: machineMark(paths.dir),
      }),
      { ...hostEnvironment(), [MACHINE_MARK]: paths.dir },
    );
    await this.#untilUp(this.#application, stop);
  }

  async runUntil(stop: AbortSignal): Promise<void> {
    const stopped = new Promise<undefined>((resolve) => {
      if (stop.aborted) resolve(undefined);
      stop.addEventListener('abort', () => resolve(undefined), { once: true });
    });
    const parts = [...this.#services, ...(this.#application === undefined ? [] : [this.#application])];
    const first = await Promise.race([stopped, ...parts.map((one) => one.exited.then(() => one))]);
    if (first === undefined || stop.aborted) return;
    if (first !== this.#application) throw componentFailed(first, 'ended');
    const { code } = await first.exited;
    // An enclave ends with its program.
    if (code !== 0) throw await this.#ended(first);
  }

  async stop(): Promise<void> {
    const application = this.#application;
    if (application?.running === true && application.pid !== undefined) {
      // unshare itself does not pass signals on.
      const first = firstProcess(application.pid);
      if (first !== undefined) sendSignal(first, 'SIGTERM');
      await Promise.race([application.exited, sleep(STOP_GRACE_MS, undefined, { ref: false })]);
      if (application.running) sendSignal(-application.pid, 'SIGKILL');
      await application.exited;
    }
    while (this.#services.length > 0) await (this.#services.pop() as Component).stop(SERVICE_GRACE_MS);
    await this.#parent?.close();
    // An enclave has no disk, and its keys may lie in these files.
    await rm(this.#root, { recursive: true, force: true });
  }

  async #unpack(file: string, sections: readonly Section[]): Promise<UnpackedApplication> {
    const { paths } = this.#options;
    await rm(this.#root, { recursive: true, force: true });
    await mkdir(paths.guest, { recursive: true, mode: 0o700 });
    const source = await openSource(file);
    try {
      return await unpackApplication(source, sections, this.#root);
    } finally {
      await source.close();
    }
  }

  async #startProxy(vsock: string, stop: AbortSignal): Promise<void> {
    const { manifest, run } = this.#options;
    const ingress = manifest.port_map.map(({ address, from, to }) => ({ address, from, to }));
    const config = proxyConfigText(manifest.enclave, ingress, `host:${vsock}`);
    if (config === undefined) return;
    const path = join(run.dir, 'vsock-proxy.json');
    await writeFile(path, config, { mode: 0o600 });
    let isReady = false;
    const proxy = this.#service(
      'proxy',
      [...resolveProgram('dstack-vsock-proxy'), '--config', path],
      (line) => {
        isReady ||= line.startsWith('dstack-vsock-proxy ready');
      },
    );
    await untilReady(proxy, () => isReady, stop);
  }

  #service(name: string, command: readonly string[], onOutput?: (line: string) => void): Component {
    const { paths } = this.#options;
    const component = this.#start(
      name,
      command,
      { ...childEnvironment(), [MACHINE_MARK]: paths.dir },
      onOutput,
    );
    this.#services.push(component);
    return component;
  }

  #start(
    name: string,
    command: readonly string[],
    env: NodeJS.ProcessEnv,
    onOutput?: (line: string) => void,
  ): Component {
    const { paths, serial, guard } = this.#options;
    const logPath = join(paths.logs, `${name}.log`);
    return new Component({
      ...{ name, command, env, cwd: paths.dir, logPath, serial, guard },
      ...(onOutput === undefined ? {} : { onOutput }),
    });
  }

  #reported(report: EnclaveReport): void {
    const { serial, keeper } = this.#options;
    this.#last = report;
    serial.append(`[host] The enclave reports: ${report.error?.trim() ?? report.stage}`);
    if (report.stage === 'started') this.#isUp = true;
    else keeper.update({ boot_progress: report.stage });
  }

  /** Up when its init says so; an image of another kind when it has run for a while. */
  async #untilUp(application: Component, stop: AbortSignal): Promise<void> {
    const { keeper } = this.#options;
    keeper.update({ boot_progress: 'starting the application' });
    const patience = Date.now() + SILENT_MS;
    while (!stop.aborted && !this.#isUp && Date.now() < patience) {
      if (!application.running) {
        const { code } = await application.exited;
        if (code === 0) return;
        throw await this.#ended(application);
      }
      await sleep(POLL_MS);
    }
  }

  /** Why the program of the enclave ended; its report may still be on its way. */
  async #ended(application: Component): Promise<VmmError> {
    const { code, signal } = await application.exited;
    for (let tries = 0; tries < 20 && (this.#last === undefined || this.#last.stage === 'started'); tries++)
      await sleep(POLL_MS);
    const { stage, error } = this.#last ?? {};
    const how = code === null ? `by ${signal}` : `with exit code ${code}`;
    const where = stage === undefined || stage === 'started' || stage === 'ended' ? '' : ` at stage ${stage}`;
    const why = error?.trim() ?? application.tail.slice(-8).join('\n');
    return new VmmError(
      'boot_failed',
      `The program of the enclave ended ${how}${where}${why === '' ? '' : `:\n${why}`}`,
    );
  }
}
