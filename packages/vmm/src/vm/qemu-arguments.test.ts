import { describe, expect, it } from 'vitest';
import { type DevicePlan, share } from './devices/device-plan.ts';
import { macAddress } from './mac-address.ts';
import { type QemuPlan, qemuArguments } from './qemu-arguments.ts';

const plan: QemuPlan = {
  program: '/usr/bin/qemu-system-x86_64',
  acceleration: 'tcg',
  devices: { vcpu: 2, memory: 2048, nodes: [], gpus: [], bridges: [], pinned: undefined },
  boot: {
    kind: 'direct',
    kernel: '/images/one/bzImage',
    initrd: '/images/one/initramfs.cpio.gz',
    commandLine: 'console=ttyS0 panic=1',
    root: '/images/one/rootfs.img.parted.verity',
    firmware: undefined,
  },
  dataDisk: '/vm/a/data.img',
  sharedDisk: '/vm/a/shared.img',
  imagesDisk: undefined,
  tdx: undefined,
  networks: [
    {
      mac: '96:b1:d8:b9:08:e6',
      backend: {
        mode: 'user',
        ports: [
          { address: '127.0.0.1', protocol: 'tcp', from: 8080, to: 80 },
          { address: '0.0.0.0', protocol: 'udp', from: 5353, to: 53 },
        ],
      },
    },
  ],
  vsock: { kind: 'vhost-user', socket: '/tmp/dstack-aaaaaa/vhost.sock' },
  tpm: undefined,
  qmp: '/tmp/dstack-aaaaaa/qmp.sock',
};
const td: QemuPlan = {
  ...plan,
  acceleration: 'kvm',
  boot: { ...plan.boot, firmware: '/images/one/ovmf.fd' } as QemuPlan['boot'],
  tdx: { mrConfigId: 'AUQT', quoteServicePort: 4050 },
  vsock: { kind: 'vhost', cid: 1000 },
};

/** Three GPUs on two nodes of the host, and one switch between them. */
const gpus = [
  { slot: '9a:00.0', node: 1 },
  { slot: '18:00.0', node: 0 },
  { slot: '2a:00.0', node: 0 },
];
const passed: DevicePlan = { ...plan.devices, gpus, bridges: [{ slot: '05:00.0' }] };
const pages = (
  vm: { vcpu: number; memory: number },
  on: typeof gpus,
): Pick<DevicePlan, 'vcpu' | 'memory' | 'nodes'> => share({ ...vm, hugepages: true }, on);

/** One argument a line; an option and its value on one. */
function text(args: readonly string[]): string {
  return `${args.join('\n').replaceAll(/\n(?!-)/g, ' ')}\n`;
}

describe('the command line of QEMU', () => {
  it.each<[string, QemuPlan]>([
    ['tcg', plan],
    ['kvm', { ...plan, acceleration: 'kvm' }],
    ['tdx', td],
    [
      'disk-swtpm',
      {
        ...plan,
        boot: { kind: 'disk', firmware: '/images/one/ovmf.fd', disk: '/images/one/disk.raw' },
        tpm: '/tmp/dstack-aaaaaa/tpm.sock',
      },
    ],
    [
      'bridge-images',
      {
        ...plan,
        imagesDisk: '/vm/a/images.squashfs',
        networks: [
          { mac: macAddress('vm-123', 0), backend: { mode: 'bridge', bridge: 'br0' } },
          { mac: macAddress('vm-123', 1), backend: { mode: 'user', ports: [] } },
        ],
      },
    ],
    ['gpus', { ...td, devices: passed }],
    ['gpus-huge-pages', { ...td, devices: { ...passed, ...pages({ vcpu: 7, memory: 16_385 }, gpus) } }],
    ['huge-pages', { ...plan, devices: { ...plan.devices, ...pages({ vcpu: 2, memory: 2048 }, []) } }],
    [
      'pinned',
      { ...plan, devices: { ...plan.devices, pinned: { program: '/usr/bin/taskset', cpus: '0-31,64-95' } } },
    ],
  ])('%s', async (name, machine) => {
    await expect(text(qemuArguments(machine))).toMatchFileSnapshot(`golden/${name}.txt`);
  });

  it('keeps a comma in a path what it is', () => {
    const args = qemuArguments({ ...plan, dataDisk: '/vm/a,readonly=on/data.img' });
    expect(args).toContain('if=none,id=data,format=raw,discard=unmap,file=/vm/a,,readonly=on/data.img');
  });
});

it('the addresses of interfaces follow the machine’s id', () => {
  expect(macAddress('vm-123', 0)).toBe('96:b1:d8:b9:08:e6');
  expect(macAddress('vm-123', 1)).toBe('c6:74:2c:65:14:b9');
});
