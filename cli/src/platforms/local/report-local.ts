import { type CvmStatus, HOW_ENCLAVES_RUN, listCvms } from '@dstack-cloud/vmm';
import type { GlobalConfig } from '../../config/global-config.ts';
import type { Context } from '../../context.ts';
import { type ProjectState, UPDATING } from '../../project/state-file.ts';
import type { ListedMachine, MachineReport, Place } from '../platform.ts';
import { machineIfThere, projectMachine, runPath } from './paths.ts';

/** State of the project's machine now. */
export async function reportLocal(place: Place, state: ProjectState): Promise<MachineReport> {
  const machine = await machineIfThere(projectMachine(place, state));
  if (machine === undefined)
    return {
      status: 'NOT_FOUND',
      simulated: true,
      error: null,
      urls: {},
      instanceId: null,
      rows: rows(state, 'NOT_FOUND', undefined),
    };
  const status = machine.state.status.toUpperCase();
  return {
    status,
    simulated: true,
    error: machine.state.error,
    urls: machine.state.urls,
    instanceId: machine.state.instance_id,
    hardware: hardwareOf(machine),
    drift: driftOf(state, machine),
    rows: rows(state, status, machine),
  };
}

function driftOf(state: ProjectState, { manifest }: CvmStatus): string[] {
  if (manifest?.driver !== 'enclave' || manifest.image === state.os_image_hash) return [];
  return [`The machine has the image of OS_IMAGE_HASH 0x${manifest.image}`];
}

/** Every machine below the run folder. */
export async function listLocal(context: Context, config: GlobalConfig): Promise<ListedMachine[]> {
  return (await listCvms(runPath(context, config))).map(({ name, manifest, state }) => ({
    name,
    status: state.status.toUpperCase(),
    simulated: true,
    app_id: manifest?.app_id ?? '',
    urls: state.urls,
    created_at: manifest === undefined ? '' : new Date(manifest.created_at_ms).toISOString(),
    project: manifest?.project ?? null,
    error: state.error,
  }));
}

function rows(state: ProjectState, status: string, machine: CvmStatus | undefined): [string, string][] {
  const found: [string, string][] = [
    ['Instance:', state.instance_name],
    ['Project:', state.project || 'local'],
    ['Zone:', state.zone],
    ['Status:', status],
    ['External IP:', state.external_ip || 'N/A'],
    ['Internal IP:', state.internal_ip],
    ['Boot Image:', state.boot_image],
    ['Created:', state.created_at],
    ['Updated:', state.updated_at],
  ];
  if (state.status === UPDATING)
    found.push(['Update:', 'under way, or interrupted: then deploy repeats it, and start goes back']);
  if (machine === undefined) return found;
  if (machine.manifest?.driver === 'enclave') found.push(['TEE:', `${HOW_ENCLAVES_RUN} (development only)`]);
  else found.push(['TEE:', 'SIMULATED Intel TDX (development only)']);
  found.push(...vmRows(machine));
  if (machine.state.boot_progress !== '') found.push(['Progress:', machine.state.boot_progress]);
  if (machine.state.error !== null) found.push(['Error:', machine.state.error]);
  const { app, agent } = machine.state.urls;
  if (app !== undefined) found.push(['App URL:', app]);
  if (agent !== undefined) found.push(['Agent URL:', agent]);
  return found;
}

/** How a virtual machine runs, for programs to read. */
function hardwareOf({ manifest, state: { vm } }: CvmStatus): MachineReport['hardware'] {
  if (manifest?.driver !== 'vm' || vm === null) return undefined;
  const { acceleration, no_kvm, cpu, qemu_version } = vm;
  return { acceleration, no_kvm, cpu, qemu_version };
}

/** What a virtual machine is and how it runs. */
export function vmRows({ manifest, state }: Pick<CvmStatus, 'manifest' | 'state'>): [string, string][] {
  if (manifest?.driver !== 'vm') return [];
  const { vcpu, memory, disk_size } = manifest.vm;
  const found: [string, string][] = [
    ['Driver:', `virtual machine, ${vcpu} CPUs, ${memory} MiB, data disk ${disk_size} GiB`],
  ];
  const { vm } = state;
  if (vm === null) return found;
  const how =
    vm.acceleration === 'kvm' ? 'KVM' : `none, software emulation by TCG (KVM: ${vm.no_kvm ?? 'not wanted'})`;
  found.push(['Acceleration:', how]);
  if (vm.cpu !== '') found.push(['CPU model:', vm.cpu]);
  found.push(['QEMU:', vm.qemu_version], ['Booted image:', vm.os_image_hash]);
  if (vm.restarts > 0) found.push(['Restarts:', `${vm.restarts}: it ended by itself; see dstack-cloud logs`]);
  return found;
}
