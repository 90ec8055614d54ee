import { ByteWriter, concatBytes, toHex, utf8 } from '@dstack-cloud/encoding';
import { sha384 } from './hash.ts';
import { FIRMWARE_SECTIONS, type SimulatedImageFiles } from './image-files.ts';
import { bootOf, type SimulatedBoot } from './simulated-image.ts';

const PAGE = 4096;
const DEFAULT_MEMORY = 4 * 1024 ** 3;

/** The machine of a boot from image files; it measures as QEMU 9 does, and as QEMU 8 with two passes. */
export interface ImageMachine {
  readonly cpuCount?: number;
  /** Bytes. */
  readonly memorySize?: number;
  readonly qemuVersion?: string;
}

/**
 * What booting these files measures, computed from their known layout rather than by parsing them: a second opinion
 * for whoever recomputes registers from an image. The configuration is of the legacy variant, without a document.
 */
export function simulatedImageBoot(image: SimulatedImageFiles, machine: ImageMachine = {}): SimulatedBoot {
  const { cpuCount = 2, memorySize = DEFAULT_MEMORY, qemuVersion = '9.1.0' } = machine;
  const parts = {
    mrTd: mrtd(image.firmware, qemuVersion.startsWith('8.')),
    kernel: kernelDigest(image, memorySize),
    commandLine: sha384(new Uint8Array(Buffer.from(`${image.commandLine} initrd=initrd\0`, 'utf16le'))),
    initrd: sha384(image.initrd),
  };
  return bootOf(parts, { cpuCount, memorySize }, image.osImageHash, {
    spec_version: 1,
    os_image_hash: toHex(image.osImageHash),
    cpu_count: cpuCount,
    memory_size: memorySize,
    qemu_version: qemuVersion,
    pci_hole64_size: 0,
    hugepages: false,
    num_gpus: 0,
    num_nvswitches: 0,
    hotplug_off: false,
    image: 'simulated',
    host_share_mode: '9p',
  });
}

function mrtd(firmware: Uint8Array, twoPasses: boolean): Uint8Array {
  const parts: Uint8Array[] = [];
  const operation = (name: string, address: number): Uint8Array =>
    new ByteWriter()
      .bytes(utf8(name.padEnd(16, '\0')))
      .u64le(BigInt(address))
      .bytes(new Uint8Array(104))
      .finish();
  for (const { offset, address, memorySize, attributes } of FIRMWARE_SECTIONS) {
    if (attributes === 2) continue; // Neither added nor measured.
    const pages = Array.from({ length: memorySize / PAGE }, (_, i) => i * PAGE);
    const added = pages.map((page) => operation('MEM.PAGE.ADD', address + page));
    const measured = pages.map((page) =>
      attributes === 0
        ? new Uint8Array()
        : concatBytes(
            ...Array.from({ length: 16 }, (_, i) => page + 256 * i).flatMap((at) => [
              operation('MR.EXTEND', address + at),
              firmware.subarray(offset + at, offset + at + 256),
            ]),
          ),
    );
    if (twoPasses) parts.push(...added, ...measured);
    else parts.push(...pages.flatMap((_, i) => [added[i]!, measured[i]!]));
  }
  return sha384(...parts);
}

/** Authenticode of the kernel with the fields that QEMU fills in; `simulatedImageFiles` says where everything lies. */
function kernelDigest({ kernel, initrd }: SimulatedImageFiles, memory: number): Uint8Array {
  const low = memory < 0xb000_0000 ? memory : 0x8000_0000;
  const top = low - 0x28000 - 1 - initrd.length;
  const header = Buffer.from(kernel);
  header[0x210] = 0xb0;
  header[0x211] = 0x81;
  header.writeUInt32LE(0xfe00, 0x224);
  header.writeUInt32LE(0x20000, 0x228);
  header.writeUInt32LE(top - (top % PAGE), 0x218);
  header.writeUInt32LE(initrd.length, 0x21c);
  return sha384(header.subarray(0, 0x98), header.subarray(0x9c, 0xe8), header.subarray(0xf0));
}
