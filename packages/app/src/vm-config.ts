import { fromHex } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { asOsImageHash, type OsImageHash } from './ids.ts';
import { parseDocument } from './parse-document.ts';

/** The VM configuration that a guest presents; absent members are undefined. */
export interface VmConfig {
  readonly osImageHash: OsImageHash | undefined;
  readonly cpuCount: number | undefined;
  /** Bytes. */
  readonly memorySize: bigint | undefined;
  readonly qemuSinglePassAddPages: boolean | undefined;
  readonly pic: boolean | undefined;
  readonly qemuVersion: string | undefined;
  readonly pciHole64Size: bigint | undefined;
  readonly hugepages: boolean;
  readonly numGpus: number;
  readonly numNvswitches: number;
  readonly hotplugOff: boolean;
  readonly image: string | undefined;
  readonly hostShareMode: string | undefined;
  readonly specVersion: number | undefined;
}

const u32 = z.int().min(0).max(0xffff_ffff);
const u64 = z
  .union([z.int().min(0).transform(BigInt), z.bigint()], 'must be a whole number, 0 or more')
  .refine((value) => value >= 0n && value < 1n << 64n, 'must fit 64 bits');
const hash = z
  .string()
  .regex(/^(?:0x)?[0-9a-fA-F]{64}$|^$/, 'must be 32 bytes of hex')
  .transform((text) => text.replace(/^0x/, '').toLowerCase());

const schema = z.object({
  os_image_hash: hash.nullish(),
  cpu_count: u32.nullish(),
  memory_size: u64.nullish(),
  qemu_single_pass_add_pages: z.boolean().nullish(),
  pic: z.boolean().nullish(),
  qemu_version: z.string().nullish(),
  pci_hole64_size: u64.nullish(),
  hugepages: z.boolean().nullish(),
  num_gpus: u32.nullish(),
  num_nvswitches: u32.nullish(),
  hotplug_off: z.boolean().nullish(),
  image: z.string().nullish(),
  host_share_mode: z.string().nullish(),
  spec_version: u32.nullish(),
});

/**
 * Reads the JSON text of `vm_config`. Unknown members are ignored; `0x` before the image hash is tolerated.
 *
 * @throws AppError `vm-config-invalid`
 */
export function parseVmConfig(text: string): VmConfig {
  const vm = parseDocument(text, schema, 'vm-config-invalid', 'vm_config');
  return {
    osImageHash: vm.os_image_hash ? asOsImageHash(fromHex(vm.os_image_hash)) : undefined,
    cpuCount: vm.cpu_count ?? undefined,
    memorySize: vm.memory_size ?? undefined,
    qemuSinglePassAddPages: vm.qemu_single_pass_add_pages ?? undefined,
    pic: vm.pic ?? undefined,
    qemuVersion: vm.qemu_version ?? undefined,
    pciHole64Size: vm.pci_hole64_size ?? undefined,
    hugepages: vm.hugepages ?? false,
    numGpus: vm.num_gpus ?? 0,
    numNvswitches: vm.num_nvswitches ?? 0,
    hotplugOff: vm.hotplug_off ?? false,
    image: vm.image ?? undefined,
    hostShareMode: vm.host_share_mode ?? undefined,
    specVersion: vm.spec_version ?? undefined,
  };
}
