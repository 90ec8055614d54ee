import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Who made the machine, by its firmware tables. */
export interface MachineIdentity {
  readonly vendor: string;
  readonly product: string;
}

/** DMI vendor and product; empty when unreadable. `root` is `/`, or the directory that stands for it. */
export function machineIdentity(root: string): MachineIdentity {
  const dmi = (name: string): string => {
    try {
      return readFileSync(join(root, 'sys/class/dmi/id', name), 'utf8')
        .trim()
        .slice(0, 256);
    } catch {
      return '';
    }
  };
  return { vendor: dmi('sys_vendor'), product: dmi('product_name') };
}
