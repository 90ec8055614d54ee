import type { GuestDebugger } from './guest-debugger.ts';

/** Where the kernel of a bzImage is entered in 32-bit mode (Documentation/arch/x86/boot.rst). */
const KERNEL_ENTRY = 0x10_0000;
/** Where firmware puts the root pointer of its ACPI tables. */
const BIOS = { start: 0xe_0000, bytes: 0x2_0000 } as const;
const RSDP_ALIGNMENT = 16;
/** TPM2 table: bytes of the log's area, and where it lies (TCG ACPI specification 1.3, section 8.3). */
const LOG_BYTES_AT = 64;
const LOG_ADDRESS_AT = 68;

/**
 * Runs a machine up to its kernel, and hands over the log of the firmware that booted it: QEMU's own firmware here keeps
 * none, and measures nothing.
 */
export async function handOverLog(guest: GuestDebugger, log: Uint8Array): Promise<void> {
  await guest.runTo(KERNEL_ENTRY);
  const bios = await guest.read(BIOS.start, BIOS.bytes);
  let root = -1;
  for (let at = 0; at < bios.length && root < 0; at += RSDP_ALIGNMENT)
    if (bios.toString('latin1', at, at + 8) === 'RSD PTR ') root = at;
  if (root < 0) throw new Error('The firmware left no ACPI tables');
  const tables = await readTable(guest, bios.readUInt32LE(root + 16));
  for (let at = 36; at + 4 <= tables.length; at += 4) {
    const table = await readTable(guest, tables.readUInt32LE(at));
    if (table.toString('latin1', 0, 4) !== 'TPM2') continue;
    const room = table.readUInt32LE(LOG_BYTES_AT);
    if (log.length > room) throw new Error(`The firmware's log has ${log.length} bytes, its area ${room}`);
    return await guest.write(Number(table.readBigUInt64LE(LOG_ADDRESS_AT)), log);
  }
  throw new Error('The machine has no TPM');
}

async function readTable(guest: GuestDebugger, address: number): Promise<Buffer> {
  const length = (await guest.read(address, 8)).readUInt32LE(4);
  return await guest.read(address, length);
}
