/** Entry of an archive; `type` is the type flag of its header. */
export type ArchiveEntry = {
  readonly name: string;
  readonly data?: string | Uint8Array;
  readonly type?: string;
};

/** A tar archive with these entries, as GNU tar writes one. */
export function tarOf(entries: readonly ArchiveEntry[]): Uint8Array {
  const blocks: Buffer[] = [];
  for (const { name, data = '', type = '0' } of entries) {
    const content = Buffer.from(data);
    const header = Buffer.alloc(512);
    header.write(name, 0, 100, 'utf8');
    header.write('0000644\0', 100);
    header.write('0000000\0', 108);
    header.write('0000000\0', 116);
    header.write(`${content.length.toString(8).padStart(11, '0')}\0`, 124);
    header.write('00000000000\0', 136);
    header.write('        ', 148);
    header.write(type, 156);
    header.write('ustar  \0', 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    blocks.push(header, content, Buffer.alloc((512 - (content.length % 512)) % 512));
  }
  return new Uint8Array(Buffer.concat([...blocks, Buffer.alloc(1024)]));
}
