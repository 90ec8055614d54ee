import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeTdxDocument } from '@dstack-cloud/attestation';

/** What the guest does once it has said that it is there. */
export type TinyGuest =
  /** Halts. */
  | 'sleeps'
  /** Waits for the power button, and powers off then. */
  | 'obeys'
  /** Powers off at once. */
  | 'powers-off';

/** What it prints on its console. */
export const TINY_GREETING = 'tiny guest';

const LOAD = 0x10_0000;
const HEADER_BYTES = 32;
const SAY = [0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8];
/** ACPI's power management block of QEMU's q35: status at 0x600, enable at 0x602, control at 0x604. */
const WAIT_FOR_BUTTON = [
  ...[0x66, 0xba, 0x02, 0x06, 0x66, 0xb8, 0x00, 0x01, 0x66, 0xef],
  ...[0x66, 0xba, 0x00, 0x06, 0x66, 0xed, 0xf6, 0xc4, 0x01, 0xf3, 0x90, 0x74, 0xf7],
];
const POWER_OFF = [0x66, 0xba, 0x04, 0x06, 0x66, 0xb8, 0x00, 0x20, 0x66, 0xef];
const HALT = [0xf4, 0xeb, 0xfd];

/** A kernel of a hundred bytes (Multiboot specification 0.6.96, section 3.1), which QEMU starts within a second. */
function tinyKernel(guest: TinyGuest): Uint8Array {
  const code: Record<TinyGuest, number[]> = {
    sleeps: HALT,
    obeys: [...WAIT_FOR_BUTTON, ...POWER_OFF, ...HALT],
    'powers-off': [...POWER_OFF, ...HALT],
  };
  const u32 = (value: number): number[] => [...new Uint8Array(Uint32Array.of(value).buffer)];
  const body = [...SAY, ...code[guest]];
  const text = LOAD + HEADER_BYTES + 10 + body.length;
  const start = [0xfa, 0xbe, ...u32(text), 0x66, 0xba, 0xf8, 0x03];
  const magic = 0x1bad_b002;
  const flags = 0x0001_0000;
  const header = [magic, flags, -(magic + flags) >>> 0, LOAD, LOAD, 0, 0, LOAD + HEADER_BYTES].flatMap(u32);
  return Uint8Array.from([...header, ...start, ...body, ...Buffer.from(`${TINY_GREETING}\r\n\0`)]);
}

/** Writes an OS image with a guest that does next to nothing: what there is to see of a machine from outside. */
export function writeTinyImage(imagePath: string, name: string, guest: TinyGuest): string {
  const folder = join(imagePath, name);
  mkdirSync(folder, { recursive: true });
  const metadata = {
    ...{
      bios: 'ovmf.fd',
      kernel: 'bzImage',
      initrd: 'initramfs.cpio.gz',
      rootfs: 'rootfs.img.parted.verity',
    },
    ...{ cmdline: 'quiet', version: '0.6.0', git_revision: '', shared_ro: true, is_dev: true },
  };
  const files: Record<string, Uint8Array> = {
    'ovmf.fd': new Uint8Array(4096),
    bzImage: tinyKernel(guest),
    'initramfs.cpio.gz': Buffer.from('nothing'),
    'metadata.json': Buffer.from(JSON.stringify(metadata)),
    'measurement.tdx.cbor': tdxDocument(),
  };
  for (const [file, bytes] of Object.entries(files)) writeFileSync(join(folder, file), bytes);
  writeFileSync(join(folder, 'rootfs.img.parted.verity'), new Uint8Array(4096));
  const list = Object.entries(files)
    .map(([file, bytes]) => `${sha256(bytes)}  ${file}\n`)
    .join('');
  writeFileSync(join(folder, 'sha256sum.txt'), list);
  writeFileSync(join(folder, 'digest.txt'), `${sha256(Buffer.from(list))}\n`);
  return folder;
}

function tdxDocument(): Uint8Array {
  const hash = new Uint8Array(48);
  return encodeTdxDocument({
    commandLineSha384: hash,
    kernelAuthenticode: hash,
    initrdSha384: hash,
    ovmfVariant: 'pre202505',
    mrtd: { singlePass: hash, twoPass: hash },
    hob: { address: 0x80_9000, accepted: [{ start: 0x80_0000, end: 0x80_a000 }] },
  });
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
