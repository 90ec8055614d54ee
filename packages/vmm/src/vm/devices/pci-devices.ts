import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { pciSlot } from '../../manifest/pci-slot.ts';
import { type HostHardware, linkName, readAttribute, readNames } from './host-hardware.ts';

/** A device on this host's PCI bus that machines may be given. */
export interface PciDevice {
  /** As `lspci` shows it: without the domain when that is 0. */
  readonly slot: string;
  readonly kind: 'gpu' | 'nvswitch';
  /** `vendor:device` in hex. */
  readonly product: string;
  /** The kernel's driver that has it; undefined for none. */
  readonly driver: string | undefined;
  /** NUMA node; 0 where the host has only one. */
  readonly node: number;
  /** Whether a driver has enabled it as bus master (PCI Local Bus Specification 3.0, section 6.2.2). */
  readonly isInUse: boolean;
}

const NVIDIA = '10de';
/** Base class and subclass (PCI Code and ID Assignment Specification): 3D controller, other bridge. */
const KINDS: ReadonlyMap<string, PciDevice['kind']> = new Map([
  ['0302', 'gpu'],
  ['0680', 'nvswitch'],
]);

const COMMAND_REGISTER = 4;
const BUS_MASTER = 4;

/** Folder of a device in sysfs. */
export function pciFolder({ sys }: HostHardware, slot: string): string {
  return join(sys, 'bus/pci/devices', slot.length === '00:00.0'.length ? `0000:${slot}` : slot);
}

/** The GPUs and NVSwitches of this host, by address. */
export async function pciDevices(host: HostHardware): Promise<PciDevice[]> {
  const found: PciDevice[] = [];
  for (const name of await readNames(join(host.sys, 'bus/pci/devices'))) {
    const slot = pciSlot(name);
    const device = slot === undefined ? undefined : await pciDevice(host, slot);
    if (device !== undefined) found.push(device);
  }
  return found;
}

/** The GPU or NVSwitch at an address; undefined when something else or nothing is there. */
export async function pciDevice(host: HostHardware, slot: string): Promise<PciDevice | undefined> {
  const folder = pciFolder(host, slot);
  const [vendor, device, code, node] = await Promise.all(
    ['vendor', 'device', 'class', 'numa_node'].map((name) => readAttribute(join(folder, name))),
  );
  const hex = (text: string | undefined): string => (text ?? '').replace(/^0x/, '').toLowerCase();
  const kind = KINDS.get(hex(code).slice(0, 4));
  if (kind === undefined || hex(vendor) !== NVIDIA) return undefined;
  return {
    slot,
    kind,
    product: `${NVIDIA}:${hex(device)}`,
    driver: await linkName(join(folder, 'driver')),
    // The kernel writes -1 where it knows of no nodes.
    node: Math.max(0, Number(node ?? 0)),
    isInUse: await isBusMaster(join(folder, 'config')),
  };
}

async function isBusMaster(path: string): Promise<boolean> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(new Uint8Array(2), 0, 2, COMMAND_REGISTER);
    return bytesRead > 0 && ((buffer[0] ?? 0) & BUS_MASTER) !== 0;
  } finally {
    await file.close();
  }
}
