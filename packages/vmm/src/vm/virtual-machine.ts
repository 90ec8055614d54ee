import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { cpus } from 'node:os';
import { join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readFileBounded } from '@dstack-cloud/app';
import { VmmError } from '../errors.ts';
import { type HostShared, readShared } from '../folder/shared-update.ts';
import type { LogFile } from '../logs/log-file.ts';
import type { MachineDriver } from '../machine-driver.ts';
import type { VmManifest } from '../manifest/manifest.ts';
import type { CvmPaths, RunPaths } from '../manifest/paths.ts';
import { childEnvironment } from '../programs/child-environment.ts';
import { Component } from '../programs/component.ts';
import type { Guard } from '../programs/guard.ts';
import { MACHINE_MARK } from '../programs/machine-processes.ts';
import { resolveProgram } from '../programs/programs.ts';
import type { StateKeeper } from '../state/state-keeper.ts';
import { chooseAcceleration } from './acceleration.ts';
import { callGuest } from './call-guest.ts';
import { checkVm, type VmHost } from './check-vm.ts';
import { checkDataDisk, freeBytes, MIN_FREE_BYTES } from './data-disk.ts';
import { requireFreeDevices } from './devices/device-plan.ts';
import { guestSystemConfig } from './guest-system-config.ts';
import { planMachine, qmpSocket, tpmSocket } from './plan-machine.ts';
import { type Acceleration, CPU_MODELS, qemuArguments } from './qemu-arguments.ts';
import { measuredVersion } from './qemu-program.ts';
import { QmpClient, type QmpEvent } from './qmp-client.ts';
import { RestartPolicy } from './restart-policy.ts';
import { writeSharedDisk } from './shared-disk.ts';
import { simulatedRoot } from './simulator.ts';
import { swtpmArguments } from './swtpm-arguments.ts';
import { vmConfig } from './vm-image.ts';
import { hostSocket, vhostSocket } from './vsock.ts';

/** Ports of CID 2 that the guest's image knows. */
export const HOST_API_PORT = 10_000;
const TEE_PORT = 4051;

const READY_TIMEOUT_MS = 60_000;
const POLL_MS = 50;
/** What a guest gets to shut down in order. */
const POWER_OFF_MS = 90_000;
const QUIT_MS = 10_000;
const HELPER_GRACE_MS = 3_000;
const NO_SPACE_POLL_MS = 5_000;
const TAIL_LINES = 12;
const MAX_ROOT = 64 * 1024;
/** What QEMU says when somebody took a port after it was checked. */
const PORT_TAKEN = /Could not set up host forwarding rule '\w+:([\d.]*):(\d+)-/;

interface VirtualMachineOptions {
  readonly manifest: VmManifest;
  readonly paths: CvmPaths;
  readonly run: RunPaths;
  readonly serial: LogFile;
  readonly guard: Guard;
  readonly keeper: StateKeeper;
}

/** One QEMU with what it needs beside it: the simulated TEE, the program that carries its vsock, a software TPM. */
export class VirtualMachine implements MachineDriver {
  readonly #options: VirtualMachineOptions;
  readonly #policy = new RestartPolicy();
  readonly #console: string[] = [];
  #running: Component[] = [];
  #qemu: Component | undefined;
  #qmp: QmpClient | undefined;
  /** Why QEMU ends, as it says itself. */
  #endReason: string | undefined;
  #isUp = false;
  #isWaitingForSpace = false;
  #restarts = 0;

  constructor(options: VirtualMachineOptions) {
    this.#options = options;
  }

  async boot(stop: AbortSignal): Promise<void> {
    this.#isUp = false;
    this.#endReason = undefined;
    this.#console.length = 0;
    this.#options.keeper.bootBegins();
    await this.#powerOn(stop);
    await this.#untilUp(stop);
    if (stop.aborted) return;
    this.#isUp = true;
    this.#policy.isUp();
  }

  /** A guest that powers itself off has ended; one that dies otherwise is started again, with pauses that grow. */
  async runUntil(stop: AbortSignal): Promise<void> {
    const stopped = new Promise<undefined>((resolve) => {
      if (stop.aborted) resolve(undefined);
      stop.addEventListener('abort', () => resolve(undefined), { once: true });
    });
    for (;;) {
      const ended = this.#running.map(async (component) => ({ component, ...(await component.exited) }));
      const first = await Promise.race([stopped, ...ended]);
      if (first === undefined || this.#endReason === 'guest-shutdown') return;
      const why = this.#describeEnd(first.component);
      await this.#endAll();
      if (!this.#options.manifest.vm.restart) throw new VmmError('boot_failed', why);
      await this.#startAgain(why, stop);
      if (stop.aborted) return;
    }
  }

  async stop(hurry: AbortSignal): Promise<void> {
    if (this.#isUp && this.#qemu?.running === true && !hurry.aborted) await this.#powerOff(hurry);
    await this.#endAll();
  }

  async #startAgain(firstReason: string, stop: AbortSignal): Promise<void> {
    const { keeper, serial } = this.#options;
    let why = firstReason;
    for (;;) {
      const pause = this.#policy.next();
      if (pause === undefined)
        throw new VmmError('boot_failed', `It ended too often, the last time so: ${why}`);
      serial.append(`[host] ${why}; it is started again in ${pause / 1000} s`);
      keeper.update({ status: 'preparing', boot_progress: 'waiting to restart', error: why });
      await sleep(pause, undefined, { signal: stop }).catch(() => undefined);
      if (stop.aborted) return;
      this.#restarts += 1;
      try {
        await this.boot(stop);
        if (stop.aborted) return;
        keeper.update({ status: 'running', running_at: new Date().toISOString(), boot_progress: 'done' });
        return;
      } catch (error) {
        why = (error as Error).message;
        await this.#endAll();
      }
    }
  }

  async #powerOn(stop: AbortSignal): Promise<void> {
    const { manifest, paths, run, keeper, serial } = this.#options;
    const { vm, tee } = manifest;
    const host = await checkVm(paths.dir, manifest);
    await requireFreeDevices(host.devices);
    await checkDataDisk(paths.dataDisk, vm.disk_size);
    const kernel = join(host.image.folder, host.image.kernel);
    const chosen = await chooseAcceleration(
      tee.kind === 'tdx' ? 'kvm' : vm.acceleration,
      host.qemu.path,
      kernel,
    );
    keeper.update({
      vm: {
        acceleration: chosen.acceleration,
        no_kvm: chosen.noKvm,
        cpu: cpuOf(chosen.acceleration),
        qemu_version: host.qemu.version,
        vsock: host.vsock.kind,
        os_image_hash: host.image.digest,
        restarts: this.#restarts,
      },
    });
    if (stop.aborted) return;
    const shared = await readShared(paths.dir);
    await writeSharedDisk(paths.sharedDisk, await this.#sharedFiles(shared, host));
    const hostPorts = [HOST_API_PORT, ...(tee.kind === 'simulated-tdx' ? [TEE_PORT] : [])];
    const carrier = { dir: run.dir, cid: vm.cid, hostPorts };
    const plan = planMachine(manifest, paths, {
      ...{ host, shared, hostPorts, runDir: run.dir },
      acceleration: chosen.acceleration,
    });
    for (const name of ['vm.vsock', 'vhost.sock', 'qmp.sock', 'tpm.sock'])
      rmSync(join(run.dir, name), { force: true });
    if (tee.kind === 'simulated-tdx') await this.#startTee(tee, host, stop);
    for (const { name, command } of host.vsock.programs(carrier)) this.#start(name, command);
    if (host.vsock.kind === 'vhost-user') await this.#untilThere(vhostSocket(run.dir), stop);
    if (host.swtpm !== undefined) await this.#startTpm(host.swtpm, stop);
    if (stop.aborted) return;
    serial.append(
      `[host] power on: ${chosen.acceleration}, QEMU ${host.qemu.version}, image ${host.image.digest}`,
    );
    const qemu = this.#start('qemu', qemuArguments(plan), (line) => this.#onConsole(line));
    this.#qemu = qemu;
    this.#qmp = await QmpClient.open(
      qmpSocket(run.dir),
      (event) => this.#onEvent(event),
      () => qemu.running,
    ).catch((error: unknown) => {
      throw qemu.running ? error : new VmmError('boot_failed', this.#describeEnd(qemu));
    });
  }

  async #sharedFiles(shared: HostShared, host: VmHost): Promise<Record<string, Uint8Array | undefined>> {
    const { vm, tee, attestation } = this.#options.manifest;
    const { image, qemu, devices } = host;
    const document = await vmConfig(image, { devices, qemuVersion: measuredVersion(qemu) });
    const root = attestation.root_ca_tdx;
    return {
      ...shared,
      '.sys-config.json': guestSystemConfig(shared['.sys-config.json'] ?? new Uint8Array(), {
        hostApiUrl: `vsock://2:${HOST_API_PORT}/api`,
        vmConfig: JSON.stringify(document),
        dockerRegistry: vm.docker_registry,
        reachesLoopback: vm.networks.some(({ mode }) => mode === 'user'),
      }),
      ...(tee.kind === 'simulated-tdx' && {
        'simulated-root-ca.pem':
          root === null ? await simulatedRoot(tee.seed_file) : await readFileBounded(root, MAX_ROOT),
      }),
    };
  }

  /** The simulator measures the very files that QEMU gets; a fresh one for each boot, as its registers only extend. */
  async #startTee(
    tee: Extract<VmManifest['tee'], { kind: 'simulated-tdx' }>,
    host: VmHost,
    stop: AbortSignal,
  ): Promise<void> {
    const { paths, run } = this.#options;
    const { vcpu, memory } = host.devices;
    const socket = hostSocket(run.dir, TEE_PORT);
    rmSync(socket, { force: true });
    const simulator = this.#start('tee', [
      ...resolveProgram('dstack-tee-simulator'),
      ...['tdx', '--seed-file', tee.seed_file, '--machine', tee.machine],
      ...['--socket', socket, '--state', paths.teeState],
      ...['--image-folder', host.image.folder, '--qemu-version', measuredVersion(host.qemu)],
      ...['--cpus', String(vcpu), '--memory', String(memory * 1024 * 1024)],
    ]);
    await this.#untilThere(socket, stop, simulator);
  }

  async #startTpm(program: string, stop: AbortSignal): Promise<void> {
    const { paths, run } = this.#options;
    mkdirSync(paths.tpm, { recursive: true, mode: 0o700 });
    const socket = tpmSocket(run.dir);
    const tpm = this.#start('tpm', [program, ...swtpmArguments(relative(paths.dir, paths.tpm), socket)]);
    await this.#untilThere(socket, stop, tpm);
  }

  #start(name: string, command: readonly string[], onOutput?: (line: string) => void): Component {
    const { paths, serial, guard } = this.#options;
    const component = new Component({
      name,
      command,
      env: { ...childEnvironment(), [MACHINE_MARK]: paths.dir },
      cwd: paths.dir,
      logPath: join(paths.logs, `${name}.log`),
      serial,
      guard,
      ...(onOutput && { onOutput }),
    });
    this.#running.push(component);
    return component;
  }

  #onConsole(line: string): void {
    this.#options.serial.append(line.replace(/\r$/, ''));
    this.#console.push(line);
    if (this.#console.length > TAIL_LINES) this.#console.shift();
  }

  #onEvent({ name, data }: QmpEvent): void {
    if (name === 'SHUTDOWN') this.#endReason = String(data['reason']);
    if (name === 'BLOCK_IO_ERROR' && data['nospace'] === true) void this.#goOnWithSpace();
  }

  /** QEMU stops a guest whose disk cannot grow; it goes on where it was once there is room. */
  async #goOnWithSpace(): Promise<void> {
    if (this.#isWaitingForSpace) return;
    this.#isWaitingForSpace = true;
    const { keeper, paths, serial } = this.#options;
    const text = `The host’s disk is full and the machine stands still: free ${MIN_FREE_BYTES} bytes for ${paths.dataDisk}`;
    serial.append(`[host] ${text}`);
    keeper.update({ error: text });
    while (this.#qemu?.running === true && (await freeBytes(paths.dir).catch(() => 0)) < MIN_FREE_BYTES)
      await sleep(NO_SPACE_POLL_MS);
    this.#isWaitingForSpace = false;
    if (this.#qemu?.running !== true) return;
    await this.#qmp?.command('cont').catch(() => undefined);
    keeper.update({ error: null });
  }

  async #untilThere(path: string, stop: AbortSignal, component = this.#running.at(-1)): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS;
    while (!stop.aborted && !existsSync(path)) {
      if (component?.running === false) throw failed(component);
      if (performance.now() > deadline)
        throw new VmmError('timeout', `${component?.name ?? path} did not get ready in time`);
      await sleep(POLL_MS);
    }
  }

  /** The application is up when the guest says so; what it says against that, or its end, comes first. */
  async #untilUp(stop: AbortSignal): Promise<void> {
    const { keeper, manifest } = this.#options;
    const deadline = performance.now() + manifest.vm.boot_timeout * 1000;
    while (!stop.aborted) {
      if (keeper.bootError !== null) throw new VmmError('boot_failed', keeper.bootError);
      if (keeper.state.boot_progress === 'done') return;
      const ended = this.#running.find(({ running }) => !running);
      if (ended !== undefined) {
        // What it said last may still be on its way.
        await ended.exited;
        throw new VmmError('boot_failed', keeper.bootError ?? this.#describeEnd(ended));
      }
      if (performance.now() > deadline)
        throw new VmmError(
          'timeout',
          `The guest did not bring its application up within ${manifest.vm.boot_timeout} s (it was at: ${keeper.state.boot_progress}): read its console with dstack-cloud logs, or give it more time (boot_timeout of local_config in app.json, of cvm in the configuration of dstack-vmm)`,
        );
      await sleep(POLL_MS);
    }
  }

  #describeEnd(component: Component): string {
    if (component !== this.#qemu) return failed(component).message;
    const said = component.tail.slice(-4).join('\n');
    const [, address, port] = PORT_TAKEN.exec(said) ?? [];
    if (port !== undefined)
      return `Port ${port} on ${address} is in use. Stop the program that listens there, or choose another port.`;
    if (this.#endReason === undefined) return `QEMU ended${said === '' ? ' without a word' : `:\n${said}`}`;
    const last = this.#console.slice(-8).join('\n');
    return `The guest ended (${this.#endReason})${last === '' ? '' : `; last on its console:\n${last}`}`;
  }

  /** Asks the guest's agent, and as a button would; waits for as long as an orderly end may take. */
  async #powerOff(hurry: AbortSignal): Promise<void> {
    const { run, keeper } = this.#options;
    keeper.update({ boot_progress: 'powering off' });
    const asked = callGuest(run.dir, 'Shutdown').catch(() => undefined);
    await this.#qmp?.command('system_powerdown').catch(() => undefined);
    const waiting = new AbortController();
    const signal = AbortSignal.any([waiting.signal, hurry]);
    const late = sleep(POWER_OFF_MS, undefined, { signal }).catch(() => undefined);
    await Promise.race([this.#qemu?.exited, late]);
    waiting.abort();
    await asked;
  }

  /** Ends everything of this boot, QEMU first: it writes out what it holds. */
  async #endAll(): Promise<void> {
    this.#isUp = false;
    const qemu = this.#qemu;
    if (qemu?.running === true) {
      await this.#qmp?.command('quit').catch(() => undefined);
      await qemu.stop(QUIT_MS);
    }
    this.#qmp?.close();
    this.#qmp = undefined;
    this.#qemu = undefined;
    const components = this.#running;
    this.#running = [];
    for (const component of components.reverse()) await component.stop(HELPER_GRACE_MS);
  }
}

function failed(component: Component): VmmError {
  const last = component.tail.slice(-8).join('\n');
  return new VmmError('boot_failed', `${component.name} ended${last === '' ? '' : `:\n${last}`}`);
}

/** The guest's processor for people to read: with KVM it is this host's. */
function cpuOf(acceleration: Acceleration): string {
  const model = CPU_MODELS[acceleration];
  const own = cpus()[0]?.model.trim().slice(0, 128);
  return acceleration === 'kvm' && own ? `${model} (${own})` : model;
}
