import { rmSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VmGpus } from '../../manifest/vm-settings.ts';
import { HardwareLab } from '../../test/hardware-lab.ts';
import { deviceArguments } from './device-arguments.ts';
import { devicePlan, requireFreeDevices, share } from './device-plan.ts';

let lab: HardwareLab;
beforeEach(() => {
  lab = new HardwareLab();
});
afterEach(() => lab.cleanUp());

const QEMU = '9.1.0';
const size = { vcpu: 2, memory: 2048, hugepages: false, pin_numa: false, gpus: null };
const listed = (...slots: string[]): VmGpus => ({
  ...{ attach_mode: 'listed', bridges: [] },
  gpus: slots.map((slot) => ({ slot })),
});
const plan = (change: object, version = QEMU) => devicePlan({ ...size, ...change }, version, lab.host);

describe('a machine without devices', () => {
  it('asks nothing of the host', async () => {
    rmSync(lab.host.sys, { recursive: true });
    const none = { vcpu: 2, memory: 2048, nodes: [], gpus: [], bridges: [], pinned: undefined };
    expect(await plan({})).toEqual(none);
    expect(deviceArguments(none)).toEqual([]);
  });
});

describe('GPUs', () => {
  it('are found by address with and without domain, on their NUMA node', async () => {
    lab.device('0000:18:00.0');
    lab.device('0000:9A:00.0'.toLowerCase(), { node: 1 });
    lab.device('0001:05:00.0', { class: '0x068000', node: -1 });
    const gpus = { ...listed('0000:18:00.0', '9A:00.0'), bridges: [{ slot: '0001:05:00.0' }] };
    const found = await plan({ gpus, pin_numa: true });
    expect(found.gpus).toMatchObject([
      { slot: '18:00.0', node: 0 },
      { slot: '9a:00.0', node: 1 },
    ]);
    expect(found.bridges).toMatchObject([{ slot: '0001:05:00.0', node: 0 }]);
    expect(found.pinned?.cpus).toBe('0-31,64-95');
    expect((await plan({ gpus: listed('9a:00.0'), pin_numa: true })).pinned?.cpus).toBe('32-63,96-127');
  });

  it.each<[string, string, RegExp]>([
    ['no device', '19:00.0', /There is no GPU at "19:00\.0".*lspci/],
    ['another kind of device', '00:1f.0', /There is no GPU/],
    ['an NVSwitch', '05:00.0', /There is no GPU.*/],
    ['a graphics card of another vendor', '06:00.0', /There is no GPU/],
    [
      'a device with another driver',
      '18:00.0',
      /not bound to vfio-pci: driverctl set-override 0000:18:00\.0 vfio-pci/,
    ],
    ['a device without driver', '1a:00.0', /not bound to vfio-pci/],
    ['a path', '../../../../etc', /There is no GPU at/],
    ['an option of QEMU', '18:00.0,x-no-mmap=on', /There is no GPU at/],
  ])('are refused where there is %s', async (_, slot, message) => {
    lab.device('0000:18:00.0', { driver: 'nvidia' });
    lab.device('0000:1a:00.0', { driver: '' });
    lab.device('0000:05:00.0', { class: '0x068000' });
    lab.device('0000:06:00.0', { vendor: '0x1002' });
    await expect(plan({ gpus: listed(slot) })).rejects.toMatchObject({
      code: 'bad_option',
      message: expect.stringMatching(message),
    });
  });

  it('need iommufd, of the host and of QEMU', async () => {
    lab.device('0000:18:00.0');
    await expect(plan({ gpus: listed('18:00.0') }, '8.1.5')).rejects.toMatchObject({
      ...{ code: 'program_missing', expected: 'version 8.2 or later', found: '8.1.5' },
    });
    rmSync(join(lab.host.dev, 'iommu'));
    await expect(plan({ gpus: listed('18:00.0') })).rejects.toThrow(/intel_iommu=on.*iommufd/);
  });
});

describe('huge pages', () => {
  it('are counted on each node: all that there are for a plan, the free ones for a start', async () => {
    lab.node(0, '0-31', { total: 1024, free: 1023 });
    const found = await plan({ hugepages: true });
    expect(found.nodes).toEqual([{ node: 0, gib: 2 }]);
    await expect(requireFreeDevices(found, lab.host)).rejects.toMatchObject({
      ...{ code: 'no_resources', expected: 'at least 1024 pages', found: '1023 pages' },
      message: expect.stringMatching(/node0\/hugepages\/hugepages-2048kB\/nr_hugepages, or stop a machine/),
    });
    lab.node(0, '0-31', { total: 1024, free: 1024 });
    await requireFreeDevices(found, lab.host);
    lab.device('0000:9a:00.0', { node: 1 });
    await expect(plan({ hugepages: true, gpus: listed('9a:00.0') })).rejects.toThrow(
      /NUMA node 1 has 0 huge pages of 2048 KiB, and the machine needs 1024/,
    );
  });

  it('need a hugetlbfs with pages of a size that the node has', async () => {
    lab.node(0, '0-31', { total: 1024, free: 1024 });
    lab.pageBytes = 2 ** 30;
    await expect(plan({ hugepages: true })).rejects.toThrow(/0 huge pages of 1048576 KiB.*needs 2/);
    lab.pageBytes = undefined;
    await expect(plan({ hugepages: true })).rejects.toThrow(/mount -t hugetlbfs/);
    lab.pageBytes = 2 ** 21;
    rmSync(join(lab.host.dev, 'hugepages'), { recursive: true });
    await expect(plan({ hugepages: true })).rejects.toMatchObject({ code: 'bad_option' });
  });

  it('share processors and memory equally among nodes, and give no less than was asked for', () => {
    const count = fc.integer({ min: 1, max: 512 });
    const nodes = fc.array(fc.integer({ min: 0, max: 7 }), { maxLength: 8 });
    fc.assert(
      fc.property(count, fc.integer({ min: 256, max: 2 ** 22 }), nodes, (vcpu, memory, on) => {
        const gpus = on.map((node) => ({ node }));
        const got = share({ vcpu, memory, hugepages: true }, gpus);
        expect(got.nodes.map(({ node }) => node)).toEqual([...new Set(on.length ? on : [0])].sort());
        expect(got.nodes.reduce((sum, { gib }) => sum + gib, 0) * 1024).toBe(got.memory);
        expect(got.vcpu % got.nodes.length).toBe(0);
        expect(got.vcpu - vcpu).toBeGreaterThanOrEqual(0);
        expect(got.vcpu - vcpu).toBeLessThan(got.nodes.length);
        expect(got.memory - memory).toBeGreaterThanOrEqual(0);
        expect(got.memory - memory).toBeLessThan(1024 * (got.nodes.length + 1));
        // Rounding again changes nothing: the service stores what the driver starts.
        expect(share({ ...got, hugepages: true }, gpus)).toEqual(got);
      }),
    );
  });
});

describe('pinning', () => {
  it.each([
    ['a node without processors', ''],
    ['a list that is none', '0-31;reboot'],
  ])('is refused with %s', async (_, cpus) => {
    lab.node(0, cpus);
    await expect(plan({ pin_numa: true })).rejects.toMatchObject({
      code: 'bad_option',
      message: expect.stringMatching(/NUMA node 0 has no processors/),
    });
  });

  it('is refused where the kernel knows of no nodes', async () => {
    rmSync(join(lab.host.sys, 'devices'), { recursive: true });
    await expect(plan({ pin_numa: true })).rejects.toThrow(/NUMA node 0 has no processors/);
  });
});
