import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { HostHardware } from '../vm/devices/host-hardware.ts';

type Device = {
  readonly vendor?: string;
  readonly device?: string;
  readonly class?: string;
  readonly driver?: string;
  readonly node?: number;
  readonly isBusMaster?: boolean;
};

/** A host whose sysfs and /dev are folders, with two NUMA nodes and an IOMMU. */
export class HardwareLab {
  readonly root: string = mkdtempSync(join(tmpdir(), 'vmm-hardware-'));
  /** Bytes of a huge page; undefined for no hugetlbfs. */
  pageBytes: number | undefined = 2 * 2 ** 20;
  readonly host: HostHardware = {
    sys: join(this.root, 'sys'),
    dev: join(this.root, 'dev'),
    pageBytes: async () => this.pageBytes,
  };

  constructor() {
    mkdirSync(join(this.host.dev, 'hugepages'), { recursive: true });
    writeFileSync(join(this.host.dev, 'iommu'), '');
    this.node(0, '0-31,64-95');
    this.node(1, '32-63,96-127');
    this.device('0000:00:1f.0', { vendor: '0x8086', device: '0x1234', class: '0x060100' });
  }

  node(number: number, cpus: string, pages: { total: number; free: number } = { total: 0, free: 0 }): void {
    const folder = join(this.host.sys, `devices/system/node/node${number}`);
    const huge = join(folder, 'hugepages/hugepages-2048kB');
    mkdirSync(huge, { recursive: true });
    writeFileSync(join(folder, 'cpulist'), `${cpus}\n`);
    writeFileSync(join(huge, 'nr_hugepages'), `${pages.total}\n`);
    writeFileSync(join(huge, 'free_hugepages'), `${pages.free}\n`);
  }

  /** A GPU bound to vfio-pci unless it is to be something else. */
  device(name: string, change: Device = {}): void {
    const folder = join(this.host.sys, 'bus/pci/devices', name);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const { vendor = '0x10de', device = '0x2335', node = 0, driver = 'vfio-pci' } = change;
    const attributes = { vendor, device, class: change.class ?? '0x030200', numa_node: String(node) };
    for (const [file, text] of Object.entries(attributes)) writeFileSync(join(folder, file), `${text}\n`);
    const config = new Uint8Array(64);
    config[4] = change.isBusMaster === true ? 6 : 2;
    writeFileSync(join(folder, 'config'), config);
    if (driver !== '') symlinkSync(`../../../bus/pci/drivers/${driver}`, join(folder, 'driver'));
  }

  cleanUp(): void {
    rmSync(this.root, { recursive: true, force: true });
  }
}
