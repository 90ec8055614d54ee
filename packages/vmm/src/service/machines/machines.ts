import { randomUUID } from 'node:crypto';
import { isThere, makeOwnDirectory } from '@dstack-cloud/files';
import type { vmm } from '@dstack-cloud/prpc';
import { createCvm } from '../../change/create-cvm.ts';
import type { CreateOptions } from '../../change/create-options.ts';
import { settleCvm, updateCvm } from '../../change/update-cvm.ts';
import { VmmError } from '../../errors.ts';
import { withMachine } from '../../folder/machine-folder.ts';
import { readShared } from '../../folder/shared-update.ts';
import type { VmManifest } from '../../manifest/manifest.ts';
import { foldersWithProcesses } from '../../programs/machine-processes.ts';
import { sendSignal } from '../../programs/send-signal.ts';
import { endOrphans, HURRY, launchCvm, removeCvm, stopCvm } from '../../run/lifecycle.ts';
import { listCvms } from '../../state/status.ts';
import { HOST_HARDWARE, type HostHardware } from '../../vm/devices/host-hardware.ts';
import type { VmmConfig } from '../config/vmm-config.ts';
import type { Images } from '../images.ts';
import type { Configuration } from './configuration.ts';
import { claims, offeredGpus, wantedGpus } from './gpus.ts';
import {
  configurationOf,
  folderOf,
  isMachineId,
  isUnknown,
  livingSupervisor,
  type Machine,
  machineOf,
  readMachine,
  whyUnusable,
} from './machine.ts';
import { changedConfiguration, type MachineChange } from './machine-change.ts';
import { MachinePlanner } from './machine-planner.ts';
import { Queue } from './queue.ts';
import { readRecord, writeRecord } from './service-record.ts';
import { emptyTrash, makeTrash, moveToTrash } from './trash.ts';

/** Told of what goes wrong where nobody waits for an answer. */
type Failed = (id: string, what: string, error: unknown) => void;

/**
 * The machines below the run folder. What is known of them is read from there each time: the service keeps nothing that
 * a restart would lose. What concerns several machines (ports, context ids, memory) is settled by one call at a time.
 */
export class Machines {
  readonly #config: VmmConfig;
  readonly #images: Images;
  readonly #failed: Failed;
  readonly #hardware: HostHardware;
  readonly #planner: MachinePlanner;
  readonly #queue = new Queue();
  /** Those that were here when the service started, or that it made. */
  #known = new Set<string>();
  /** Machines that are being stopped by us, which therefore do not stop by themselves. */
  readonly #stopping = new Map<string, Promise<void>>();

  constructor(config: VmmConfig, images: Images, failed: Failed, hardware: HostHardware = HOST_HARDWARE) {
    this.#config = config;
    this.#images = images;
    this.#failed = failed;
    this.#hardware = hardware;
    this.#planner = new MachinePlanner(config, images, hardware);
  }

  /** Finishes what a service that was killed had decided. */
  async settle(): Promise<void> {
    // While there is room: on a full disk machines have to be removable.
    await makeTrash(this.#config.run_path).catch((error: unknown) => this.#failed('', 'trash', error));
    for (const { id, status } of await this.list()) {
      this.#known.add(id);
      if (!isThere(status.dir)) continue;
      await settleCvm(status.dir).catch((error: unknown) => this.#failed(id, 'update', error));
    }
  }

  /** Every machine, oldest first. */
  async list(): Promise<Machine[]> {
    const all = await listCvms(this.#config.run_path);
    const running = new Set(foldersWithProcesses());
    const machines: Machine[] = [];
    for (const status of all) {
      const id = status.dir.slice(status.dir.lastIndexOf('/') + 1);
      if (isMachineId(id)) machines.push(await machineOf(id, status, running));
    }
    return machines;
  }

  /** @throws VmmError `not_found` */
  async find(id: string): Promise<Machine> {
    const dir = folderOf(this.#config.run_path, id);
    if (dir !== undefined) return await readMachine(id, dir);
    const gone = (await this.list()).find((machine) => machine.id === id);
    if (gone !== undefined) return gone;
    throw new VmmError('not_found', `There is no VM ${JSON.stringify(id.slice(0, 64))}`);
  }

  /** Makes a machine and, unless it is to stay stopped, starts it. Leaves nothing behind when it fails. */
  async create(request: vmm.VmConfiguration): Promise<string> {
    const wanted = await this.#planner.requested(request);
    return await this.#queue.run(async () => {
      const machines = await this.list();
      if (machines.length >= this.#config.cvm.max_cvm_number)
        throw new VmmError('no_resources', `There are ${machines.length} machines already`, {
          expected: `fewer than ${this.#config.cvm.max_cvm_number} (cvm.max_cvm_number)`,
          found: String(machines.length),
        });
      const id = randomUUID();
      const options = await this.#planner.newMachine(id, wanted, machines);
      if (!request.stopped) this.#planner.requireRoom(options.vm, machines);
      makeOwnDirectory(this.#config.run_path);
      await createCvm(options);
      const { dir } = options;
      try {
        await writeRecord(dir, { schema: 1, started: !request.stopped });
        if (!request.stopped) await launchCvm(dir);
      } catch (error) {
        await removeCvm(dir, { force: true }).catch((left: unknown) => this.#failed(id, 'remove', left));
        throw error;
      }
      this.#known.add(id);
      return id;
    });
  }

  /** How the driver is to make a machine in a folder of its own, which is none of the service's. */
  async plan(request: vmm.VmConfiguration, dir: string): Promise<CreateOptions> {
    const wanted = await this.#planner.requested(request);
    const options = await this.#planner.newMachine(randomUUID(), wanted, await this.list());
    return { ...options, dir };
  }

  /** Powers a machine on; it boots on its own. */
  async start(id: string): Promise<void> {
    await this.#queue.run(async () => {
      const machine = await this.#usable(id);
      if (machine.isAlive) throw new VmmError('already_running', `${machine.status.name} runs already`);
      const machines = (await this.list()).filter((other) => other.id !== id);
      const configuration = await configurationOf(machine, machine.manifest);
      this.#planner.requireRoom(machine.manifest.vm, machines);
      this.#planner.checkPorts(id, configuration, machines);
      this.#planner.checkCid(machine.manifest, machines);
      const { dir } = machine.status;
      await this.#setStarted(dir, true);
      await launchCvm(dir).catch(async (error: unknown) => {
        // Who was told that it does not start must not find it started later.
        await this.#setStarted(dir, false).catch((left: unknown) => this.#failed(id, 'start', left));
        throw error;
      });
    });
  }

  /** Ends a machine at once. */
  async stop(id: string): Promise<void> {
    const { status } = await this.find(id);
    await this.#setStarted(status.dir, false);
    // Also when its guest is being asked to shut down, for which others would wait. The state may name a process id that
    // another program has by now.
    const supervisor = livingSupervisor(status);
    if (supervisor !== undefined) sendSignal(supervisor.pid, HURRY);
    await this.#stopping.get(id);
    await this.#whileStopping(id, stopCvm(status.dir, { force: true }));
  }

  /** Asks the guest to shut down, and does not wait for it. */
  async shutdown(id: string): Promise<void> {
    const { status, isAlive } = await this.find(id);
    if (!isAlive) throw new VmmError('not_running', `${status.name} is not running`);
    await this.#setStarted(status.dir, false);
    if (this.#stopping.has(id)) return;
    void this.#whileStopping(id, stopCvm(status.dir)).catch((error: unknown) =>
      this.#failed(id, 'shutdown', error),
    );
  }

  /** Moves a stopped machine to the trash, from where it is deleted later. */
  async remove(id: string): Promise<void> {
    await this.#queue.run(async () => {
      const { status } = await this.find(id);
      const { dir } = status;
      await withMachine(dir, { evenWhenFull: true }, async () => {
        if ((await readMachine(id, dir)).isAlive)
          throw new VmmError('running', `${status.name} is running: stop it first`);
        // A killed supervisor may have left QEMU, with its memory and ports.
        await endOrphans(dir);
        await moveToTrash(this.#config.run_path, id, Date.now());
      });
      this.#known.delete(id);
      if (this.#config.trash_ttl === 0) await emptyTrash(this.#config.run_path, 0, Date.now());
    });
  }

  /** Changes a machine: all that can be checked is checked before anything is written. */
  async update(id: string, change: MachineChange): Promise<void> {
    await this.#queue.run(async () => {
      // Before anything of it is read.
      await settleCvm((await this.find(id)).status.dir);
      const machine = await this.#usable(id);
      const before = await configurationOf(machine, machine.manifest);
      const { gpu } = this.#config.cvm;
      const gpus = change.gpus ? await wantedGpus(change.gpus, gpu, this.#hardware) : before.gpus;
      const wanted = changedConfiguration(before, change, gpus, this.#config);
      if (machine.isAlive) refuseWhileRunning(machine.status.name, before, wanted);
      const machines = (await this.list()).filter((other) => other.id !== id);
      const { dir } = machine.status;
      const instanceInfo = (await readShared(dir))['.instance_info'];
      const { cid } = machine.manifest.vm;
      const options = await this.#planner.options({ id, wanted, machines, cid, instanceInfo });
      await updateCvm(options, { whileRunning: true });
    });
  }

  /** Deletes an OS image that no machine boots. */
  async removeImage(name: string): Promise<void> {
    await this.#queue.run(async () => {
      // Also those in folders that are none of the service's: whatever is below the run folder may boot it.
      const machines = await listCvms(this.#config.run_path);
      await this.#images.remove(
        name,
        machines.map((machine) => ({ name: machine.name, image: machine.manifest?.image })),
      );
    });
  }

  /** Looks what others did in the run folder, and stops what still runs of machines whose folder is gone. */
  async reload(): Promise<{ loaded: number; updated: number; removed: number }> {
    const machines = await this.list();
    for (const { status } of machines) if (!isThere(status.dir)) await stopCvm(status.dir);
    const present = new Set(machines.filter(({ status }) => isThere(status.dir)).map(({ id }) => id));
    const loaded = [...present].filter((id) => !this.#known.has(id)).length;
    const removed = [...this.#known].filter((id) => !present.has(id)).length;
    this.#known = present;
    return { loaded, updated: present.size - loaded, removed };
  }

  /** Whether the service itself is stopping this machine now. */
  isStopping(id: string): boolean {
    return this.#stopping.has(id);
  }

  /** The machine stopped by itself, or somebody else stopped it: it is not to run any more. */
  async hasStopped(id: string): Promise<void> {
    const dir = folderOf(this.#config.run_path, id);
    if (dir !== undefined) await this.#setStarted(dir, false);
  }

  /** Starts a machine that is to run and does not. */
  async restart(id: string): Promise<void> {
    await this.#queue.run(async () => {
      const machine = await this.#usable(id);
      if (machine.isAlive || !machine.record.started) return;
      const others = (await this.list()).filter((other) => other.id !== id);
      this.#planner.checkCid(machine.manifest, others);
      await launchCvm(machine.status.dir);
    });
  }

  /** The GPUs that callers may ask for, and whether each is free. */
  async gpus(): Promise<{ slot: string; productId: string; description: string; isFree: boolean }[]> {
    const machines = await this.list();
    const owners = claims(machines);
    const isKnown = machines.every((machine) => !isUnknown(machine));
    const offered = await offeredGpus(this.#config.cvm.gpu, this.#hardware);
    return offered.map(({ slot, product, isInUse }) => ({
      slot,
      productId: product,
      description: `NVIDIA 3D controller [${product}]`,
      isFree: isKnown && !isInUse && !owners.has(slot),
    }));
  }

  async #usable(id: string): Promise<Machine & { readonly manifest: VmManifest }> {
    const machine = await this.find(id);
    const { manifest, status } = machine;
    if (manifest !== undefined) return { ...machine, manifest };
    throw new VmmError('damaged', `VM ${id} cannot be used: ${whyUnusable(status)}`);
  }

  async #setStarted(dir: string, started: boolean): Promise<void> {
    const record = await readRecord(dir).catch((error: unknown) => {
      // A damaged record starts nothing, and must not keep a machine from being stopped.
      if (!started && error instanceof VmmError && error.code === 'damaged') return undefined;
      throw error;
    });
    if (record === undefined || record.started === started) return;
    await writeRecord(dir, { ...record, started });
  }

  async #whileStopping(id: string, stopped: Promise<boolean>): Promise<void> {
    const done = stopped.then(() => undefined).finally(() => this.#stopping.delete(id));
    this.#stopping.set(
      id,
      done.catch(() => undefined),
    );
    await done;
  }
}

/** What the guest reads at its next boot can change at any time; what QEMU was started with cannot. */
function refuseWhileRunning(name: string, before: Configuration, wanted: Configuration): void {
  const fixed = ['vcpu', 'memory', 'diskSize', 'image', 'noTee', 'networks', 'gpus'] as const;
  const changed = fixed.find((key) => JSON.stringify(before[key]) !== JSON.stringify(wanted[key]));
  if (changed !== undefined)
    throw new VmmError('running', `${name} is running: stop it to change ${changed}`, {
      expected: 'a stopped machine',
      found: 'a running one',
    });
}
