import { join } from 'node:path';
import { VmmError } from '../../errors.ts';
import { pciSlot } from '../../manifest/pci-slot.ts';
import type { VmGpus, VmSettings } from '../../manifest/vm-settings.ts';
import { findProgram } from '../find-program.ts';
import { HOST_HARDWARE, type HostHardware, isUsable, readAttribute, readNames } from './host-hardware.ts';
import { type NodeMemory, requireHugePages } from './huge-pages.ts';
import { type PciDevice, pciDevice, pciFolder } from './pci-devices.ts';

/** What a machine gets of this host's hardware. */
export interface DevicePlan {
  /** Rounded up so that each NUMA node has the same share. */
  readonly vcpu: number;
  /** MiB. */
  readonly memory: number;
  /** Nodes of this host whose huge pages are the machine's memory; none without huge pages. */
  readonly nodes: readonly NodeMemory[];
  readonly gpus: readonly Pick<PciDevice, 'slot' | 'node'>[];
  readonly bridges: readonly Pick<PciDevice, 'slot'>[];
  /** Runs QEMU on these processors of this host, as `taskset` takes them. */
  readonly pinned: { readonly program: string; readonly cpus: string } | undefined;
}

type Wanted = Pick<VmSettings, 'vcpu' | 'memory' | 'hugepages' | 'pin_numa' | 'gpus'>;

const MIB_PER_GIB = 1024;
/** The first with iommufd, by which devices are handed over. */
const OLDEST_IOMMUFD = [8, 2] as const;

/**
 * Checks that this host has what a machine asks for; changes nothing.
 *
 * @throws VmmError `bad_option`, `program_missing`
 */
export async function devicePlan(
  wanted: Wanted,
  qemuVersion: string,
  host: HostHardware = HOST_HARDWARE,
): Promise<DevicePlan> {
  const gpus = await devices(host, wanted.gpus, 'gpu');
  const bridges = await devices(host, wanted.gpus, 'nvswitch');
  if (gpus.length + bridges.length > 0) await requirePassthrough(host, qemuVersion);
  const { vcpu, memory, nodes } = share(wanted, gpus);
  if (nodes.length > 0) await requireHugePages(host, nodes, 'all');
  const pinned = wanted.pin_numa ? await pinnedTo(host, gpus[0]?.node ?? 0) : undefined;
  return { vcpu, memory, nodes, gpus, bridges, pinned };
}

/** What also has to be free at a start. @throws VmmError `no_resources` */
export async function requireFreeDevices(
  plan: DevicePlan,
  host: HostHardware = HOST_HARDWARE,
): Promise<void> {
  if (plan.nodes.length > 0) await requireHugePages(host, plan.nodes, 'free');
}

/** Processors and memory in equal shares for the nodes that the GPUs are on. */
export function share(
  { vcpu, memory, hugepages }: Pick<Wanted, 'vcpu' | 'memory' | 'hugepages'>,
  gpus: readonly Pick<PciDevice, 'node'>[],
): Pick<DevicePlan, 'vcpu' | 'memory' | 'nodes'> {
  if (!hugepages) return { vcpu, memory, nodes: [] };
  // In a fixed order: it is part of what a TD is measured by.
  const nodes = [...new Set(gpus.map(({ node }) => node))].sort((one, other) => one - other);
  if (nodes.length === 0) nodes.push(0);
  const each = Math.ceil(Math.ceil(memory / MIB_PER_GIB) / nodes.length);
  return {
    vcpu: Math.ceil(vcpu / nodes.length) * nodes.length,
    memory: each * nodes.length * MIB_PER_GIB,
    nodes: nodes.map((node) => ({ node, gib: each })),
  };
}

async function devices(
  host: HostHardware,
  wanted: VmGpus | null,
  kind: PciDevice['kind'],
): Promise<PciDevice[]> {
  const slots = (kind === 'gpu' ? wanted?.gpus : wanted?.bridges) ?? [];
  const found: PciDevice[] = [];
  for (const { slot } of slots) found.push(await passedDevice(host, slot, kind));
  return found;
}

async function passedDevice(host: HostHardware, text: string, kind: PciDevice['kind']): Promise<PciDevice> {
  const name = kind === 'gpu' ? 'GPU' : 'NVSwitch';
  const slot = pciSlot(text);
  const device = slot === undefined ? undefined : await pciDevice(host, slot);
  if (device?.kind !== kind)
    throw new VmmError(
      'bad_option',
      `There is no ${name} at ${JSON.stringify(text.slice(0, 20))} of this host: lspci -nn lists its devices`,
      { expected: `the address of an NVIDIA ${name}, such as 18:00.0`, found: device?.kind ?? 'none' },
    );
  if (device.driver !== 'vfio-pci')
    throw new VmmError(
      'bad_option',
      `${name} ${device.slot} is not bound to vfio-pci: driverctl set-override ${pciFolder(host, device.slot).slice(-12)} vfio-pci`,
      { expected: 'driver vfio-pci', found: device.driver ?? 'no driver' },
    );
  return device;
}

async function requirePassthrough(host: HostHardware, qemuVersion: string): Promise<void> {
  const [major = 0, minor = 0] = qemuVersion.split('.').map(Number);
  if (major < OLDEST_IOMMUFD[0] || (major === OLDEST_IOMMUFD[0] && minor < OLDEST_IOMMUFD[1]))
    throw new VmmError('program_missing', 'This QEMU hands no GPUs over: install a newer one', {
      expected: `version ${OLDEST_IOMMUFD.join('.')} or later`,
      found: qemuVersion,
    });
  const path = join(host.dev, 'iommu');
  const usable = await isUsable(host, 'iommu');
  if (usable === true) return;
  throw new VmmError(
    'bad_option',
    usable === undefined
      ? `There is no ${path}: switch the IOMMU on (intel_iommu=on on the host’s command line) and load the modules iommufd and vfio-pci`
      : `This user may not open ${path}: give it permission`,
    { expected: `a usable ${path}`, found: usable === undefined ? 'no such device' : 'no permission' },
  );
}

async function pinnedTo(host: HostHardware, node: number): Promise<NonNullable<DevicePlan['pinned']>> {
  const program = findProgram('taskset');
  if (program === undefined)
    throw new VmmError('program_missing', 'There is no taskset to pin the machine with: install util-linux', {
      expected: 'taskset on PATH',
      found: 'no such program',
    });
  const folder = join(host.sys, 'devices/system/node');
  const cpus = await readAttribute(join(folder, `node${node}`, 'cpulist'));
  if (cpus !== undefined && /^\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*$/.test(cpus)) return { program, cpus };
  const names = (await readNames(folder)).filter((name) => /^node\d+$/.test(name));
  throw new VmmError(
    'bad_option',
    `NUMA node ${node} has no processors to pin the machine to: ask for no pin_numa`,
    {
      expected: `a list of processors in ${folder}/node${node}/cpulist`,
      found: cpus === undefined ? `nodes ${names.join(', ') || 'none'}` : cpus || 'none',
    },
  );
}
