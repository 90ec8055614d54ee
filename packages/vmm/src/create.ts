import { randomBytes, randomUUID } from 'node:crypto';
import { link, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { AppError, HOST_SHARED_LIMITS, type HostSharedName, readFileBounded } from '@dstack-cloud/app';
import {
  isThere,
  makeOwnDirectory,
  type ProcessIdentity,
  removeAbandoned,
  temporaryName,
} from '@dstack-cloud/files';
import { checkSealApproval } from './check-seal-approval.ts';
import { VmmError } from './errors.ts';
import { imagesDiskOf, placeImages, removeOtherImages, requireImagesSpace } from './images-disk.ts';
import { asVmmErrors, canonical, requireMachineFolder, withMachine } from './machine-folder.ts';
import {
  type CvmManifest,
  MANIFEST_FILE,
  type PortMapping,
  type ProcessManifest,
  parseManifest,
  readManifest,
  type VmManifest,
  writeManifest,
} from './manifest.ts';
import { confirmUpdate, hasOpenUpdate, openUpdate, renewGuest, undoUpdate } from './open-update.ts';
import { cvmPaths } from './paths.ts';
import { requireFreePort } from './ports.ts';
import { finishUpdate, type HostShared, stageUpdate, writeShared } from './shared-update.ts';
import { INITIAL_STATE, readState, writeState } from './state.ts';
import { supervisorOf } from './supervisor-of.ts';
import { chooseAcceleration } from './vm/acceleration.ts';
import { checkVm } from './vm/check-vm.ts';
import { checkDataDisk, growDataDisk, makeDataDisk, requireGrowth } from './vm/data-disk.ts';
import { planMachine } from './vm/plan-machine.ts';
import { qemuArguments } from './vm/qemu-arguments.ts';
import { type VmOptions, vmSettings } from './vm/vm-settings.ts';

/** Larger than any seed or certificate. */
const MAX_INPUT_BYTES = 64 * 1024;

export interface CreateOptions {
  /** Folder that will hold the machine; its parent is made when missing. */
  readonly dir: string;
  /** UUID of a new machine; a random one when absent. */
  readonly id?: string;
  readonly name: string;
  readonly appId: string;
  /** Name of the OS image; without a virtual machine it decides the simulated MRTD and RTMR0 to 2. */
  readonly image: string;
  /** Makes it a virtual machine; without, the guest's programs are processes of this host. */
  readonly vm?: VmOptions;
  /** Of a virtual machine; the simulated TDX by default. */
  readonly tee?: 'simulated-tdx' | 'tdx' | 'none';
  /** Port of the host's quote generation service on its vsock, for a real TD. */
  readonly qgsPort?: number;
  readonly shared: HostShared;
  /** Archives and OCI image layouts that the machine loads into its engine; they were checked. */
  readonly images?: readonly string[];
  /** 32-byte seed of the simulated hardware; made when missing. */
  readonly seedFile: string;
  readonly machine?: string;
  /** PEM or DER of the root that the guest trusts for TDX quotes; null for Intel's. */
  readonly rootCaTdx?: string | null;
  readonly pccsUrl?: string | null;
  /** Host port 0 means any free one. */
  readonly ports?: readonly {
    host: number;
    guest: number;
    address?: string;
    protocol?: PortMapping['protocol'];
  }[];
  readonly agentPort?: number;
  readonly engine?: ProcessManifest['runner']['engine'];
  readonly env?: Readonly<Record<string, string>>;
  /** Which daemon of the engine: DOCKER_HOST and the like. */
  readonly engineEnv?: Readonly<Record<string, string>>;
  readonly owner?: ProcessIdentity | null;
  readonly project?: string | null;
}

export interface UpdateOptions {
  /** Keeps what was before until `closeUpdate`, which a failed start undoes. */
  readonly open?: boolean;
  /** An open update that also gives the machine an empty guest; its data disk stays. */
  readonly fresh?: boolean;
  /** Changes a running machine too: what it reads at its next boot. The caller has checked that nothing else changes. */
  readonly whileRunning?: boolean;
}

/**
 * Makes a machine, not started. All is checked before anything is written, and a failure half way leaves no folder.
 * Throws `already_exists`, `bad_option`, `port_in_use`, `bad_manifest`, `not_ours`.
 */
export async function createCvm(options: CreateOptions): Promise<CvmManifest> {
  const { dir } = options;
  if (isThere(dir)) throw new VmmError('already_exists', `${dir} exists already`);
  const wanted = parseManifest(JSON.stringify(makeManifest(options)), join(dir, MANIFEST_FILE));
  await checkChange(options, wanted);
  await asVmmErrors(dir, async () => makeOwnDirectory(dirname(dir)));
  await ensureSeed(options.seedFile);
  // What killed processes left half made.
  removeAbandoned(dirname(dir));
  const staged = join(dirname(dir), temporaryName(basename(dir)));
  try {
    await mkdir(staged, { mode: 0o700 });
    await writeShared(staged, options.shared);
    await writeState(staged, INITIAL_STATE);
    const manifest = withImages(wanted, dir, await placeImages(staged, options.images ?? []));
    await writeManifest(staged, manifest);
    if (manifest.driver === 'vm') await makeDataDisk(cvmPaths(staged).dataDisk, manifest.vm.disk_size);
    // A machine is there whole or not at all; of two made at once the second fails here.
    await rename(staged, dir).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === 'EEXIST' || cause.code === 'ENOTEMPTY')
        throw new VmmError('already_exists', `${dir} exists already`, { cause });
      throw cause;
    });
    return manifest;
  } catch (error) {
    await rm(staged, { recursive: true, force: true });
    throw error;
  }
}

/**
 * Checks what `createCvm` or, for a machine that is there, `updateCvm` would be given, and changes nothing. Ports that
 * the machine itself has now count as free. Throws what these would throw.
 */
export async function checkCvm(options: CreateOptions): Promise<void> {
  const { dir } = options;
  if (!isThere(dir)) {
    const manifest = parseManifest(JSON.stringify(makeManifest(options)), join(dir, MANIFEST_FILE));
    return await checkChange(options, manifest);
  }
  await requireMachineFolder(dir);
  const next = nextManifest(await readManifest(dir), options);
  await checkChange(options, next, await portsInUse(dir));
}

/** The command line of QEMU of a virtual machine that would be made so; makes nothing. Throws as `checkCvm`. */
export async function plannedCommand(options: CreateOptions): Promise<string[]> {
  const { dir, shared } = options;
  const manifest = parseManifest(JSON.stringify(makeManifest(options)), join(dir, MANIFEST_FILE));
  if (manifest.driver !== 'vm') throw new VmmError('bad_option', `${manifest.name} is no virtual machine`);
  await checkChange(options, manifest);
  const host = await checkVm(dir, manifest);
  const { folder, kernel } = host.image;
  const wanted = manifest.tee.kind === 'tdx' ? 'kvm' : manifest.vm.acceleration;
  const { acceleration } = await chooseAcceleration(wanted, host.qemu.path, join(folder, kernel));
  const run = { host, acceleration, shared, runDir: dir, hostPorts: [] };
  return qemuArguments(planMachine(manifest, cvmPaths(dir), run));
}

/** Ports of the host that the machine has itself now. */
async function portsInUse(dir: string): Promise<number[]> {
  const state = await readState(dir);
  return supervisorOf(dir, state) === undefined ? [] : Object.values(state.ports);
}

/**
 * Gives a stopped machine new host-shared files and settings; its id, its disk and its simulated hardware stay. A file
 * that is not given is removed. After a kill at any moment the next start or update has all of the old or all of the new.
 * Throws as `createCvm` does, and `running`, `locked`, `not_found`.
 */
export async function updateCvm(options: CreateOptions, update: UpdateOptions = {}): Promise<CvmManifest> {
  const { dir, shared } = options;
  return await withStopped(dir, update.whileRunning === true, async (before) => {
    const wanted = nextManifest(before, options);
    await checkChange(options, wanted, await portsInUse(dir));
    const next = withImages(wanted, dir, await placeImages(dir, options.images ?? []));
    // A disk that is larger than its machine says does no harm, should the update be taken back.
    if (next.driver === 'vm') await growDataDisk(cvmPaths(dir).dataDisk, next.vm.disk_size);
    if (update.open || update.fresh) await openUpdate(dir);
    else await confirmUpdate(dir);
    if (update.fresh) await renewGuest(dir);
    await stageUpdate(dir, shared, next);
    await finishUpdate(dir);
    if (!hasOpenUpdate(dir)) await removeOtherImages(dir, [imagesDiskOf(next)]);
    return next;
  });
}

/** Does what a killed command had decided, so that all of a machine's files are of one update. Throws as `updateCvm`. */
export async function settleCvm(dir: string): Promise<void> {
  await withMachine(dir, {}, () => finishUpdate(dir));
}

/** Takes an open update of a stopped machine back, or lets it hold. False when there is none. Throws as `updateCvm`. */
export async function closeUpdate(dir: string, outcome: 'undo' | 'confirm'): Promise<boolean> {
  const isOpen = hasOpenUpdate(dir);
  if (outcome === 'confirm')
    await withMachine(dir, { evenWhenFull: true }, async () => {
      await confirmUpdate(dir);
      await removeOtherImages(dir, [imagesDiskOf(await readManifest(dir))]);
    });
  else await withStopped(dir, false, () => undoUpdate(dir));
  return isOpen;
}

async function withStopped<T>(
  dir: string,
  orRunning: boolean,
  body: (before: CvmManifest) => Promise<T>,
): Promise<T> {
  return await withMachine(dir, {}, async () => {
    await finishUpdate(dir);
    const before = await readManifest(dir);
    if (!orRunning && supervisorOf(dir, await readState(dir)) !== undefined)
      throw new VmmError('running', `${before.name} is running: stop it first`);
    return await body(before);
  });
}

function nextManifest(manifest: CvmManifest, options: CreateOptions): CvmManifest {
  const wanted = makeManifest(options);
  if (wanted.driver !== manifest.driver)
    throw new VmmError(
      'bad_option',
      `${manifest.name} has driver ${manifest.driver}: its data does not move to another driver; deploy --delete-data makes a new machine`,
      { expected: manifest.driver, found: wanted.driver },
    );
  if (wanted.driver === 'vm' && manifest.driver === 'vm')
    requireGrowth(manifest.vm.disk_size, wanted.vm.disk_size);
  const kept = wanted.port_map.map((mapping, index) => {
    const before = manifest.port_map[index];
    return !mapping.fixed && before?.to === mapping.to ? { ...mapping, from: before.from } : mapping;
  });
  const agent_port = wanted.agent_port.fixed ? wanted.agent_port : { ...manifest.agent_port, fixed: false };
  const { id, created_at_ms } = manifest;
  const tee = manifest.tee.kind === wanted.tee.kind ? manifest.tee : wanted.tee;
  const next = { ...wanted, id, created_at_ms, tee, port_map: kept, agent_port };
  return parseManifest(JSON.stringify(next), join(options.dir, MANIFEST_FILE));
}

function makeManifest(options: CreateOptions): CvmManifest {
  const common = {
    schema: 1,
    id: options.id ?? randomUUID(),
    name: options.name,
    app_id: options.appId,
    image: options.image,
    created_at_ms: Date.now(),
    attestation: { root_ca_tdx: options.rootCaTdx ?? null, pccs_url: options.pccsUrl ?? null },
    port_map: (options.ports ?? []).map((mapping) => ({
      address: mapping.address ?? '127.0.0.1',
      protocol: mapping.protocol ?? ('tcp' as const),
      from: mapping.host,
      to: mapping.guest,
      fixed: mapping.host !== 0,
    })),
    agent_port: { address: '127.0.0.1', from: options.agentPort ?? 0, fixed: (options.agentPort ?? 0) !== 0 },
    owner: options.owner ?? null,
    project: options.project ?? null,
  } as const;
  const simulated = {
    kind: 'simulated-tdx',
    seed_file: options.seedFile,
    machine: options.machine ?? 'machine-0',
  } as const;
  if (options.vm !== undefined)
    return {
      ...common,
      driver: 'vm',
      tee: teeOf(options, simulated),
      vm: vmSettings(canonical(options.dir), options.vm),
    };
  return {
    ...common,
    driver: 'process',
    tee: simulated,
    runner: {
      engine: options.engine ?? 'auto',
      env: { ...options.env },
      engine_env: { ...options.engineEnv },
      images_disk: null,
    },
  };
}

/** The manifest of a machine that has a disk with container images, by its name in the machine's folder. */
function withImages(manifest: CvmManifest, dir: string, name: string | null): CvmManifest {
  if (name === null) return manifest;
  return manifest.driver === 'vm'
    ? { ...manifest, vm: { ...manifest.vm, images_disk: join(canonical(dir), name) } }
    : { ...manifest, runner: { ...manifest.runner, images_disk: name } };
}

/** Port at which a host's quote generation service listens unless it was told otherwise. */
const QGS_PORT = 4050;

function teeOf({ tee, qgsPort }: CreateOptions, simulated: ProcessManifest['tee']): VmManifest['tee'] {
  if (tee === 'tdx') return { kind: 'tdx', qgs_port: qgsPort ?? QGS_PORT };
  return tee === 'none' ? { kind: 'none' } : simulated;
}

async function checkChange(
  { dir, shared, seedFile, rootCaTdx, images = [] }: CreateOptions,
  manifest: CvmManifest,
  ownPorts: readonly number[] = [],
): Promise<void> {
  for (const [name, bytes] of Object.entries(shared)) {
    const limit = Object.hasOwn(HOST_SHARED_LIMITS, name)
      ? HOST_SHARED_LIMITS[name as HostSharedName]
      : undefined;
    if (limit === undefined) throw new VmmError('bad_option', `${name} is no host-shared file`);
    if (bytes !== undefined && bytes.length > limit)
      throw new VmmError(
        'bad_option',
        `${name} has ${bytes.length} bytes; the guest takes ${limit} at most`,
        {
          expected: `at most ${limit} bytes`,
          found: `${bytes.length} bytes`,
        },
      );
  }
  if (shared['app-compose.json'] === undefined || shared['.sys-config.json'] === undefined)
    throw new VmmError('bad_option', 'A machine needs app-compose.json and .sys-config.json');
  await checkSealApproval(dir, shared);
  await requireReadable('The seed of the simulated hardware', seedFile, true);
  if (rootCaTdx != null) await requireReadable('The TDX root', rootCaTdx, false);
  await requireImagesSpace(dir, images);
  const ports = [...manifest.port_map, manifest.agent_port].filter(({ fixed }) => fixed);
  const twice = ports.find(
    ({ from, address }, index) =>
      ports.findIndex((one) => one.from === from && one.address === address) < index,
  );
  if (twice !== undefined)
    throw new VmmError(
      'bad_option',
      `Port ${twice.from} is asked for twice: choose another one for one of them`,
    );
  for (const { from, address } of ports) if (!ownPorts.includes(from)) await requireFreePort(from, address);
  if (manifest.driver !== 'vm') return;
  await checkVm(dir, manifest);
  if (isThere(dir)) await checkDataDisk(cvmPaths(dir).dataDisk, (await readVm(dir)).vm.disk_size);
}

async function readVm(dir: string): Promise<VmManifest> {
  const manifest = await readManifest(dir);
  if (manifest.driver === 'vm') return manifest;
  throw new VmmError('bad_manifest', `The machine in ${dir} is no virtual machine`);
}

async function requireReadable(what: string, path: string, mayBeMissing: boolean): Promise<void> {
  try {
    await readFileBounded(path, MAX_INPUT_BYTES);
  } catch (cause) {
    if (mayBeMissing && cause instanceof AppError && cause.code === 'file-missing') return;
    throw new VmmError('bad_option', `${what} cannot be used: ${(cause as Error).message}`, { cause });
  }
}

/** A new seed appears whole or not at all, and never in the place of one that is there. */
async function ensureSeed(path: string): Promise<void> {
  if (isThere(path)) return;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = join(dirname(path), temporaryName(basename(path)));
  await writeFile(temporary, randomBytes(32), { mode: 0o600, flag: 'wx', flush: true });
  try {
    await link(temporary, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    await rm(temporary, { force: true });
  }
}
