import type { PortMapping } from '../manifest/manifest.ts';
import { deviceArguments } from './devices/device-arguments.ts';
import type { DevicePlan } from './devices/device-plan.ts';

/** How the guest's processors run. */
export type Acceleration = 'kvm' | 'tcg';

/** What carries the guest's vsock. */
export type VsockDevice =
  /** A program of the host, at a Unix socket (vhost-user). */
  | { readonly kind: 'vhost-user'; readonly socket: string }
  /** The host's kernel (`/dev/vhost-vsock`). */
  | { readonly kind: 'vhost'; readonly cid: number };

/** What firmware and kernel come from. */
type BootSource =
  | {
      readonly kind: 'direct';
      readonly kernel: string;
      readonly initrd: string;
      readonly commandLine: string;
      readonly root: string;
      /** Undefined: QEMU's own; a TD needs one that knows TDX. */
      readonly firmware: string | undefined;
    }
  | { readonly kind: 'disk'; readonly firmware: string; readonly disk: string };

/** Everything that decides the command line of one machine. */
export interface QemuPlan {
  readonly program: string;
  readonly acceleration: Acceleration;
  /** Processors, memory, and what is handed over of the host's hardware. */
  readonly devices: DevicePlan;
  readonly boot: BootSource;
  readonly dataDisk: string;
  readonly sharedDisk: string;
  readonly imagesDisk: string | undefined;
  /** Undefined: a machine without TEE, or with a simulated one, which the guest reaches through its vsock. */
  readonly tdx: { readonly mrConfigId: string | undefined; readonly quoteServicePort: number } | undefined;
  readonly networks: readonly QemuNetwork[];
  readonly vsock: VsockDevice;
  /** Control socket of the software TPM. */
  readonly tpm: string | undefined;
  readonly qmp: string;
}

interface QemuNetwork {
  readonly mac: string;
  readonly backend:
    | {
        readonly mode: 'user';
        readonly ports: readonly Pick<PortMapping, 'address' | 'protocol' | 'from' | 'to'>[];
      }
    | { readonly mode: 'bridge'; readonly bridge: string };
}

/**
 * Which processor the guest sees. An emulated one is all that QEMU can emulate, but for page tables of five levels: each
 * miss of the emulated TLB walks them all, and no machine here has the memory that they are for.
 */
export function processorArguments(acceleration: Acceleration): string[] {
  const accelerator = acceleration === 'kvm' ? 'kvm' : 'tcg,thread=multi';
  return ['-accel', accelerator, '-cpu', CPU_MODELS[acceleration]];
}

/** QEMU's names of processors. */
export const CPU_MODELS: Readonly<Record<Acceleration, string>> = { kvm: 'host', tcg: 'max,la57=off' };

/**
 * The command line of QEMU. The serial console is standard output. QEMU ends when the guest reboots: each boot gets a fresh
 * set of measurement registers.
 */
export function qemuArguments(plan: QemuPlan): string[] {
  const { acceleration, tdx, devices } = plan;
  const { vcpu, memory, pinned } = devices;
  return [
    ...(pinned === undefined ? [] : [pinned.program, '-c', pinned.cpus]),
    plan.program,
    ...processorArguments(acceleration),
    ...['-smp', String(vcpu), '-m', `${memory}M`],
    ...machine(plan),
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-chardev', 'stdio,id=com0,signal=off', '-serial', 'chardev:com0'],
    ...['-qmp', `unix:${value(plan.qmp)},server=on,wait=off`],
    ...['-smbios', 'type=1,manufacturer=dstack,product=dstack'],
    ...(tdx === undefined ? [] : ['-object', JSON.stringify(tdxGuest(tdx))]),
    ...bootSource(plan.boot),
    ...disk('data', plan.dataDisk, 'discard=unmap'),
    ...disk('shared', plan.sharedDisk, 'readonly=on'),
    ...(plan.imagesDisk === undefined ? [] : disk('images', plan.imagesDisk, 'readonly=on')),
    ...plan.networks.flatMap(network),
    ...(plan.tpm === undefined ? [] : tpm(plan.tpm)),
    ...vsock(plan.vsock),
    ...deviceArguments(devices),
  ];
}

function machine({ acceleration, devices, vsock: { kind }, tdx }: QemuPlan): string[] {
  // Memory in huge pages is shared with other processes by itself.
  const needsMemory = kind === 'vhost-user' && devices.nodes.length === 0;
  const properties = [
    'q35',
    ...(acceleration === 'kvm' ? ['kernel-irqchip=split'] : []),
    ...(tdx === undefined ? [] : ['confidential-guest-support=tdx']),
    'hpet=off',
    // What another process serves the guest's queues from.
    ...(needsMemory ? ['memory-backend=mem0'] : []),
  ];
  const shared = ['-object', `memory-backend-memfd,id=mem0,size=${devices.memory}M,share=on`];
  return [...(needsMemory ? shared : []), '-machine', properties.join(',')];
}

function tdxGuest({ mrConfigId, quoteServicePort }: NonNullable<QemuPlan['tdx']>): object {
  return {
    'qom-type': 'tdx-guest',
    id: 'tdx',
    ...(mrConfigId === undefined ? {} : { mrconfigid: mrConfigId }),
    'quote-generation-socket': { type: 'vsock', cid: '2', port: String(quoteServicePort) },
  };
}

function bootSource(boot: BootSource): string[] {
  if (boot.kind === 'disk')
    return [
      ...['-bios', boot.firmware],
      ...['-drive', `if=none,id=boot,format=raw,readonly=on,file=${value(boot.disk)}`],
      ...['-device', 'virtio-blk-pci,drive=boot,bootindex=1'],
    ];
  return [
    ...(boot.firmware === undefined ? [] : ['-bios', boot.firmware]),
    ...['-kernel', boot.kernel, '-initrd', boot.initrd, '-append', boot.commandLine],
    ...['-drive', `if=none,id=root,format=raw,readonly=on,file=${value(boot.root)}`],
    ...['-device', 'virtio-blk-pci,drive=root'],
  ];
}

/** The guest finds a disk by its serial number. */
function disk(name: string, file: string, option: string): string[] {
  const drive = `if=none,id=${name},format=raw,${option},file=${value(file)}`;
  return ['-drive', drive, '-device', `virtio-blk-pci,drive=${name},serial=${name}`];
}

function network({ mac, backend }: QemuNetwork, index: number): string[] {
  const id = `net${index}`;
  const netdev =
    backend.mode === 'bridge'
      ? `bridge,id=${id},br=${backend.bridge}`
      : [`user,id=${id}`, ...backend.ports.map(forward)].join(',');
  // Without its boot ROM, which firmware would measure.
  return ['-netdev', netdev, '-device', `virtio-net-pci,netdev=${id},mac=${mac},romfile=`];
}

function forward({
  protocol,
  address,
  from,
  to,
}: Pick<PortMapping, 'address' | 'protocol' | 'from' | 'to'>): string {
  return `hostfwd=${protocol}:${address}:${from}-:${to}`;
}

function tpm(control: string): string[] {
  return [
    ...['-chardev', `socket,id=tpm,path=${value(control)}`],
    ...['-tpmdev', 'emulator,id=tpm0,chardev=tpm', '-device', 'tpm-crb,tpmdev=tpm0'],
  ];
}

function vsock(device: VsockDevice): string[] {
  if (device.kind === 'vhost') return ['-device', `vhost-vsock-pci,guest-cid=${device.cid}`];
  return [
    ...['-chardev', `socket,id=vsock,path=${value(device.socket)}`],
    ...['-device', 'vhost-user-vsock-pci,chardev=vsock'],
  ];
}

/** A comma ends a value of QEMU's options unless it is doubled. */
function value(text: string): string {
  return text.replaceAll(',', ',,');
}
