import { join } from 'node:path';
import { parseSysConfig } from '@dstack-cloud/app';
import { utf8Text } from '@dstack-cloud/encoding';
import { isThere, type ProcessIdentity } from '@dstack-cloud/files';
import { create, vmm } from '@dstack-cloud/prpc';
import { VmmError } from '../../errors.ts';
import { canonical } from '../../folder/machine-folder.ts';
import { type HostShared, readShared } from '../../folder/shared-update.ts';
import type { VmManifest } from '../../manifest/manifest.ts';
import { foldersWithProcesses } from '../../programs/machine-processes.ts';
import { type CvmStatus, cvmStatus } from '../../state/status.ts';
import { supervisorOf } from '../../state/supervisor-of.ts';
import type { Configuration } from './configuration.ts';
import { NO_RECORD, readRecord, type ServiceRecord } from './service-record.ts';

/** One machine of the service, as its folder says. */
export interface Machine {
  /** Name of its folder. */
  readonly id: string;
  readonly status: CvmStatus;
  /** Undefined when it cannot be read, or is that of another folder. */
  readonly manifest: VmManifest | undefined;
  readonly record: ServiceRecord;
  /** Whether something of it runs. */
  readonly isAlive: boolean;
  /** Whether programs of it have memory, ports or devices of this host, also those that a killed supervisor left. */
  readonly holdsHost: boolean;
}

const ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Whether this can be the id of a machine: it is also the name of its folder. */
export function isMachineId(id: string): boolean {
  return ID.test(id);
}

/** What is known of the machine in `dir`, whose folder is named `id`; damage is part of its status. */
export async function readMachine(id: string, dir: string): Promise<Machine> {
  return await machineOf(id, await cvmStatus(dir));
}

/** @param running canonical folders of which programs run */
export async function machineOf(
  id: string,
  status: CvmStatus,
  running: ReadonlySet<string> = new Set(foldersWithProcesses()),
): Promise<Machine> {
  const { manifest } = status;
  // A copy of a machine's folder is not that machine.
  const own = manifest?.driver === 'vm' && manifest.id === id ? manifest : undefined;
  const record = await readRecord(status.dir).catch(() => NO_RECORD);
  // Without its folder it is only listed while programs of it run.
  const isAlive = !isThere(status.dir) || livingSupervisor(status) !== undefined;
  const holdsHost = isAlive || running.has(canonical(status.dir));
  return { id, status, manifest: own, record, isAlive, holdsHost };
}

/**
 * Refuses while a machine runs that cannot be read: what it has of this host is not known, so nothing of it is free.
 *
 * @throws VmmError `no_resources`
 */
export function requireReadable(machines: readonly Machine[]): void {
  const unknown = machines.find(isUnknown);
  if (unknown === undefined) return;
  const { id, status } = unknown;
  throw new VmmError(
    'no_resources',
    `VM ${id} runs, and what it has of this host is not known: ${whyUnusable(status)}. Stop it first`,
    { expected: 'no running machine whose files cannot be read', found: id },
  );
}

/** Whether a machine runs of which nobody can read what it has. */
export function isUnknown({ holdsHost, manifest }: Machine): boolean {
  return holdsHost && manifest === undefined;
}

/** Why a machine without manifest has none. */
export function whyUnusable({ state }: CvmStatus): string {
  return state.error ?? 'its folder holds another machine';
}

/** The supervisor of a machine, if it lives: a state may name one that is long gone. */
export function livingSupervisor({ dir, state }: CvmStatus): ProcessIdentity | undefined {
  return supervisorOf(dir, { ...state, status: 'running' });
}

/** What the machine is now, or will be at its next start. */
export async function configurationOf(
  { status: { dir } }: Machine,
  manifest: VmManifest,
): Promise<Configuration> {
  const shared = await readShared(dir);
  const text = (name: keyof HostShared): string => utf8Text(shared[name] ?? new Uint8Array());
  return {
    name: manifest.name,
    image: manifest.image,
    composeFile: text('app-compose.json'),
    vcpu: manifest.vm.vcpu,
    memory: manifest.vm.memory,
    diskSize: manifest.vm.disk_size,
    ports: manifest.port_map.map(({ protocol, address, from, to }) =>
      create(vmm.PortMappingSchema, { protocol, hostAddress: address, hostPort: from, vmPort: to }),
    ),
    encryptedEnv: shared['.encrypted-env'] ?? new Uint8Array(),
    appId: manifest.app_id,
    userConfig: text('.user-config'),
    sealApproval: text('.seal-approval.json'),
    kmsUrls: manifest.vm.kms_urls,
    gatewayUrls: manifest.vm.gateway_urls,
    noTee: manifest.tee.kind === 'none',
    networks: manifest.vm.networks,
    hugepages: manifest.vm.hugepages,
    pinNuma: manifest.vm.pin_numa,
    gpus: manifest.vm.gpus,
  };
}

/** URLs of gateways that the guest was told of. */
export async function gatewaysOf(dir: string): Promise<readonly string[]> {
  const file = (await readShared(dir))['.sys-config.json'];
  return file === undefined ? [] : parseSysConfig(file).gatewayUrls;
}

/** Whether the folder of a machine is there. */
export function folderOf(runPath: string, id: string): string | undefined {
  const dir = join(runPath, id);
  return isMachineId(id) && isThere(dir) ? dir : undefined;
}
