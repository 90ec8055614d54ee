import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Vendors whose display controllers and accelerators can be given to a guest: NVIDIA, AMD, Intel. */
const VENDORS = new Set(['0x10de', '0x1002', '0x8086']);
/** PCI base classes: display controller, processing accelerator. An emulated VGA has another vendor. */
const CLASSES = /^0x(03|12)/;

/** Graphics processors on the PCI bus of the machine below `root`; undefined when that cannot be found out. */
export function attachedGpus(root: string): number | undefined {
  const bus = join(root, 'sys/bus/pci/devices');
  let devices: string[];
  try {
    devices = readdirSync(bus);
  } catch (error) {
    // A machine without such a bus, such as a folder that stands for one, has no GPU.
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 0 : undefined;
  }
  try {
    return devices.filter((device) => {
      const attribute = (name: string): string => readFileSync(join(bus, device, name), 'latin1').trim();
      return VENDORS.has(attribute('vendor')) && CLASSES.test(attribute('class'));
    }).length;
  } catch {
    return undefined;
  }
}
