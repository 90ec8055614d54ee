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

/**
 * An archive in the "newc" form that the kernel unpacks as initramfs (Documentation/driver-api/early-userspace/
 * buffer-format.rst): root owns all, every time is zero, inode numbers follow the order given.
 */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const out = new ByteWriter();
  entries.forEach((entry, index) => {
    if (!NAME.test(entry.path) || entry.path.split('/').includes('..'))
      throw new OsImageError(
        'format',
        `${JSON.stringify(entry.path)} cannot be the name of an archive member`,
      );
    member(out, index + 1, entry.path, TYPE[entry.kind] | entry.mode, entry.data ?? new Uint8Array(0));
  });
  member(out, 0, 'TRAILER!!!', 0, new Uint8Array(0));
  pad(out, 512);
  return out.finish();
}

function member(out: ByteWriter, inode: number, path: string, mode: number, data: Uint8Array): void {
  const name = utf8(`${path}\0`);
  const links = (mode & 0o170000) === TYPE.directory ? 2 : 1;
  // inode mode uid gid links mtime size device(2) special device(2) name length checksum
  const fields = [inode, mode, 0, 0, links, 0, data.length, 0, 0, 0, 0, name.length, 0];
  out.bytes(utf8(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`));
  out.bytes(name);
  pad(out, 4);
  out.bytes(data);
  pad(out, 4);
}

function pad(out: ByteWriter, to: number): void {
  out.bytes(new Uint8Array((to - (out.length % to)) % to));
}
