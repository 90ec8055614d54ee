export interface Member {
  readonly path: string;
  readonly inode: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly mtime: number;
  readonly major: number;
  readonly minor: number;
  readonly data: string;
  /** All of the archive. */
  readonly archive: Uint8Array;
}

/** Members of the ramdisk with this number, read as the format says; text is Latin-1. */
export function ramdiskMembers(image: Uint8Array, number: number): Member[] {
  const view = Buffer.from(image);
  let seen = 0;
  for (let at = 548; at < view.length; ) {
    const size = Number(view.readBigUInt64BE(at + 4));
    if (view.readUInt16BE(at) === 3 && seen++ === number)
      return members(view.subarray(at + 12, at + 12 + size));
    at += 12 + size;
  }
  throw new Error(`no ramdisk ${number}`);
}

function members(archive: Buffer): Member[] {
  const found: Member[] = [];
  for (let at = 0; ; ) {
    if (archive.toString('latin1', at, at + 6) !== '070701') throw new Error(`no member at ${at}`);
    const fields = Array.from({ length: 13 }, (_, i) =>
      Number.parseInt(archive.toString('latin1', at + 6 + 8 * i, at + 14 + 8 * i), 16),
    ) as [number, number, number, number, number, number, number, number, number, number, number, number];
    const [inode, mode, uid, gid, links, mtime, size, , , major, minor, nameLength] = fields;
    const path = archive.toString('latin1', at + 110, at + 110 + nameLength - 1);
    const data = Math.ceil((at + 110 + nameLength) / 4) * 4;
    at = Math.ceil((data + size) / 4) * 4;
    if (path === 'TRAILER!!!') {
      if (at !== archive.length) throw new Error('bytes follow the trailer');
      return found;
    }
    const text = archive.toString('latin1', data, data + size);
    found.push({ path, inode, mode, uid, gid, links, mtime, major, minor, data: text, archive });
  }
}
