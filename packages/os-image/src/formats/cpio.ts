import { ByteWriter, utf8 } from '@dstack-cloud/encoding';
import { OsImageError } from '../errors.ts';

/** One member of an archive: permission bits without the type; directories have no content. */
export interface CpioEntry {
  /** Relative, without a leading slash. */
  readonly path: string;
  readonly kind: 'directory' | 'file' | 'symlink';
  readonly mode: number;
  /** Content of a file, target of a link. */
  readonly data?: Uint8Array;
}

const TYPE = { directory: 0o040000, file: 0o100000, symlink: 0o120000 } as const;
const NAME = /^[^/\0]+(\/[^/\0]+)*$/;

/** Fields of a member's header that differ between members; who owns it and what device it is are 0 otherwise. */
export interface CpioFields {
  readonly inode: number;
  /** With the type. */
  readonly mode: number;
  readonly size: number;
  /** Bytes without NUL. */
  readonly name: Uint8Array;
  readonly uid?: number;
  readonly gid?: number;
  /** Number of the device that the member is. */
  readonly major?: number;
  readonly minor?: number;
  /** 1 otherwise. */
  readonly links?: number;
}

/**
 * The header and the name of a member in the "newc" form (Documentation/driver-api/early-userspace/buffer-format.rst of the
 * kernel), padded: the content follows, which is padded to 4 bytes too. Every time is zero.
 */
export function cpioHeader(fields: CpioFields): Uint8Array {
  const { inode, mode, size, name, uid = 0, gid = 0, major = 0, minor = 0, links = 1 } = fields;
  // inode mode uid gid links mtime size device(2) special device(2) name length checksum
  const numbers = [inode, mode, uid, gid, links, 0, size, 0, 0, major, minor, name.length + 1, 0];
  const text = `070701${numbers.map((one) => one.toString(16).padStart(8, '0')).join('')}`;
  const bytes = new Uint8Array(padded(text.length + name.length + 1));
  bytes.set(utf8(text));
  bytes.set(name, text.length);
  return bytes;
}

/** The member that ends an archive. */
export function cpioTrailer(): Uint8Array {
  return cpioHeader({ inode: 0, mode: 0, size: 0, name: utf8('TRAILER!!!') });
}

/**
 * An archive that the kernel unpacks as initramfs: root owns all, every time is zero, inode numbers follow the order given.
 */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const out = new ByteWriter();
  entries.forEach((entry, index) => {
    if (!NAME.test(entry.path) || entry.path.split('/').includes('..'))
      throw new OsImageError(
        'format',
        `${JSON.stringify(entry.path)} cannot be the name of an archive member`,
      );
    const data = entry.data ?? new Uint8Array(0);
    out.bytes(
      cpioHeader({
        inode: index + 1,
        mode: TYPE[entry.kind] | entry.mode,
        size: data.length,
        name: utf8(entry.path),
        links: entry.kind === 'directory' ? 2 : 1,
      }),
    );
    out.bytes(data);
    out.bytes(new Uint8Array(padded(out.length) - out.length));
  });
  out.bytes(cpioTrailer());
  out.bytes(new Uint8Array((512 - (out.length % 512)) % 512));
  return out.finish();
}

function padded(length: number): number {
  return Math.ceil(length / 4) * 4;
}
