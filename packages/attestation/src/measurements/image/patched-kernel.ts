import { AttestationError } from '../../errors.ts';

/** Offsets in the setup header (Linux, Documentation/arch/x86/boot.rst section "The Real-Mode Kernel Header"). */
const HEADER_MAGIC = 0x202;
const PROTOCOL = 0x206;
const TYPE_OF_LOADER = 0x210;
const LOAD_FLAGS = 0x211;
const RAMDISK_ADDRESS = 0x218;
const RAMDISK_SIZE = 0x21c;
const HEAP_END = 0x224;
const COMMAND_LINE = 0x228;
const INITRD_MAX = 0x22c;
const EXTENDED_FLAGS = 0x236;
const HEADER_END = 0x238;

const HDRS = 0x53726448;
/** The oldest protocol whose header says how high an initrd may lie; each kernel with an EFI stub is newer. */
const MIN_PROTOCOL = 0x203;
const QEMU_LOADER = 0xb0;
const CAN_USE_HEAP = 0x80;
const LOADED_HIGH = 1;
const ABOVE_4G = 0x40;
const DEFAULT_INITRD_MAX = 0x37ffffff;
const HIGH = { real: 0x10000, commandLine: 0x20000 } as const;
const LOW = { real: 0x90000, commandLine: 0x9a000 } as const;
/** Room that QEMU leaves for ACPI tables at the end of low memory. */
const ACPI_BYTES = 0x28000;
const HOLE_THRESHOLD = 0xb0000000;
const BELOW_4G = 0x80000000;

/**
 * A kernel as QEMU hands it to the firmware: with the fields of its header filled in that depend on the machine and
 * on the initrd (docs/protocol/images.md section 4.6).
 * @param machine memory of the TD and size of the initrd, in bytes
 * @throws AttestationError `malformed`, `unsupported`; `image` for an initrd that does not fit
 */
export function patchedKernel(
  kernel: Uint8Array,
  machine: { readonly memory: number; readonly initrdBytes: number },
): Uint8Array {
  if (kernel.length < HEADER_END) throw new AttestationError('malformed', 'Kernel ends inside its header');
  const patched = kernel.slice();
  const view = new DataView(patched.buffer);
  if (view.getUint32(HEADER_MAGIC, true) !== HDRS) {
    throw new AttestationError('malformed', 'Not a Linux kernel: no HdrS');
  }
  const protocol = view.getUint16(PROTOCOL, true);
  if (protocol < MIN_PROTOCOL) {
    throw new AttestationError('unsupported', 'Kernel with a boot protocol that is too old', {
      expected: `>= 0x${MIN_PROTOCOL.toString(16)}`,
      found: `0x${protocol.toString(16)}`,
    });
  }
  const flags = view.getUint8(LOAD_FLAGS);
  const { real, commandLine } = (flags & LOADED_HIGH) !== 0 ? HIGH : LOW;
  const address = initrdAddress(initrdLimit(view, protocol), machine);
  view.setUint8(TYPE_OF_LOADER, QEMU_LOADER);
  view.setUint8(LOAD_FLAGS, flags | CAN_USE_HEAP);
  view.setUint32(HEAP_END, commandLine - real - 0x200, true);
  view.setUint32(COMMAND_LINE, commandLine, true);
  view.setUint32(RAMDISK_ADDRESS, address, true);
  view.setUint32(RAMDISK_SIZE, machine.initrdBytes, true);
  return patched;
}

/** The highest address at which this kernel takes an initrd. */
function initrdLimit(view: DataView, protocol: number): number {
  if (protocol >= 0x20c && (view.getUint16(EXTENDED_FLAGS, true) & ABOVE_4G) !== 0) return 0xffffffff;
  return view.getUint32(INITRD_MAX, true) || DEFAULT_INITRD_MAX;
}

function initrdAddress(limit: number, machine: { memory: number; initrdBytes: number }): number {
  const below4g = machine.memory < HOLE_THRESHOLD ? machine.memory : BELOW_4G;
  const end = Math.min(limit, below4g - ACPI_BYTES - 1);
  if (machine.initrdBytes >= end) {
    throw new AttestationError('image', 'The initrd does not fit into the memory of the configuration', {
      expected: `< ${end}`,
      found: String(machine.initrdBytes),
    });
  }
  const top = end - machine.initrdBytes;
  return top - (top % 4096);
}
