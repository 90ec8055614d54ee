import { z } from 'zod';
import { PCI_SLOT } from './pci-slot.ts';

/** One network interface of a virtual machine. */
export type VmNetwork =
  /** QEMU's own NAT: mapped ports of the host lead in, and the host's loopback is 10.0.2.2. */
  | { readonly mode: 'user' }
  /** A bridge of the host, through QEMU's bridge helper. */
  | { readonly mode: 'bridge'; readonly bridge_name: string };

/** Devices of the host that a machine has to itself. */
export interface VmGpus {
  /** `all`: those that the host had when the machine was made or changed. */
  readonly attach_mode: 'all' | 'listed';
  readonly gpus: readonly { readonly slot: string }[];
  /** NVSwitches. */
  readonly bridges: readonly { readonly slot: string }[];
}

/** What a machine of driver `vm` is made of. Names and units are those of the original VMM where it has them. */
export interface VmSettings {
  /** Folder of the machine itself, to see that it was moved or copied. */
  readonly home: string;
  /** Folder of the OS image. */
  readonly image_folder: string;
  readonly vcpu: number;
  /** MiB. */
  readonly memory: number;
  /** GiB; only grows. */
  readonly disk_size: number;
  /** `direct`: QEMU loads kernel and initramfs; `disk`: firmware starts the image's `disk.raw`. */
  readonly boot: 'direct' | 'disk';
  readonly tpm: 'none' | 'swtpm';
  readonly networks: readonly VmNetwork[];
  /** `auto`: KVM where a probe shows that a guest runs with it. */
  readonly acceleration: 'auto' | 'kvm' | 'tcg';
  /** Context id of the guest on its vsock; matters only where the kernel's vsock carries it. */
  readonly cid: number;
  /** Memory in huge pages of the host, on the NUMA nodes of the machine's GPUs. */
  readonly hugepages: boolean;
  /** QEMU runs on the processors of one NUMA node of the host: that of the first GPU, else node 0. */
  readonly pin_numa: boolean;
  readonly gpus: VmGpus | null;
  /** Read-only disk with container images; null for none. */
  readonly images_disk: string | null;
  /** Mirror of the public container registry. */
  readonly docker_registry: string | null;
  /** Key services and gateways that were asked for; empty where the guest was told of the host's own. */
  readonly kms_urls: readonly string[];
  readonly gateway_urls: readonly string[];
  /** Program name or path of QEMU. */
  readonly qemu: string;
  /** Seconds from power-on to the application. */
  readonly boot_timeout: number;
  /** A real TD may boot an image of flavour `dev`, whose console gives its host a shell. */
  readonly allow_dev_image: boolean;
  /** Start it again, with growing pauses, when it ends without having been told to. */
  readonly restart: boolean;
}

/** What may be left out when a machine is made. */
export type VmOptions = Pick<VmSettings, 'image_folder'> & Partial<Omit<VmSettings, 'image_folder' | 'home'>>;

/** Context ids 0 to 2 are the hypervisor's and the host's; the last is any. */
const MIN_CID = 3;
const MAX_CID = 0xffff_fffe;
const MAX_VCPU = 512;
const MAX_MEMORY_MIB = 16 * 1024 * 1024;
const MAX_DISK_GIB = 64 * 1024;
/** As the kernel bounds names of interfaces. */
const BRIDGE = /^[A-Za-z0-9_.-]{1,15}$/;
const MAX_DEVICES = 32;
const devices = z.array(z.strictObject({ slot: z.string().regex(PCI_SLOT) })).max(MAX_DEVICES);
const urls = z.array(z.string().max(2048)).max(64);

export const vmSettingsSchema: z.ZodType<VmSettings> = z.strictObject({
  home: z.string().min(1),
  image_folder: z.string().min(1),
  vcpu: z.int().min(1).max(MAX_VCPU),
  memory: z.int().min(256).max(MAX_MEMORY_MIB),
  disk_size: z.int().min(1).max(MAX_DISK_GIB),
  boot: z.enum(['direct', 'disk']),
  tpm: z.enum(['none', 'swtpm']),
  networks: z
    .array(
      z.discriminatedUnion('mode', [
        z.strictObject({ mode: z.literal('user') }),
        z.strictObject({ mode: z.literal('bridge'), bridge_name: z.string().regex(BRIDGE) }),
      ]),
    )
    .max(8),
  acceleration: z.enum(['auto', 'kvm', 'tcg']),
  cid: z.int().min(MIN_CID).max(MAX_CID),
  hugepages: z.boolean().default(false),
  pin_numa: z.boolean().default(false),
  gpus: z
    .strictObject({ attach_mode: z.enum(['all', 'listed']), gpus: devices, bridges: devices })
    .nullable()
    .default(null),
  images_disk: z.string().min(1).nullable(),
  docker_registry: z.string().nullable(),
  kms_urls: urls.default([]),
  gateway_urls: urls.default([]),
  qemu: z.string().min(1),
  boot_timeout: z.int().min(1).max(86_400),
  allow_dev_image: z.boolean().default(false),
  restart: z.boolean(),
});

/** The settings with what was left out. */
export function vmSettings(home: string, options: VmOptions): VmSettings {
  return {
    vcpu: 2,
    memory: 2048,
    disk_size: 20,
    boot: 'direct',
    tpm: 'none',
    networks: [{ mode: 'user' }],
    acceleration: 'auto',
    cid: MIN_CID,
    hugepages: false,
    pin_numa: false,
    gpus: null,
    images_disk: null,
    docker_registry: null,
    kms_urls: [],
    gateway_urls: [],
    qemu: 'qemu-system-x86_64',
    // Without hardware acceleration, on a loaded machine, a boot takes minutes.
    boot_timeout: 900,
    allow_dev_image: false,
    restart: true,
    ...options,
    home,
  };
}
