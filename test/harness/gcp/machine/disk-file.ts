import { createReadStream } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';

const TAR_BLOCK = 512;
const PIECE = 64 * 1024;

/** Writes the disk that an image's archive has, with holes where it is empty, as large as a disk is that was made of it. */
export async function writeDiskOf(archive: string, path: string, bytes: number): Promise<void> {
  const unfinished = `${path}.part`;
  const disk = await open(unfinished, 'w', 0o600);
  try {
    const source = createReadStream(archive);
    const data = createGunzip({ chunkSize: PIECE });
    source.on('error', (error) => data.destroy(error)).pipe(data);
    let at = -TAR_BLOCK;
    for await (const chunk of data as AsyncIterable<Buffer>) {
      const skipped = Math.min(Math.max(0, -at), chunk.length);
      const piece = chunk.subarray(skipped, Math.max(skipped, Math.min(chunk.length, bytes - at)));
      if (!isEmpty(piece)) await disk.write(piece, 0, piece.length, at + skipped);
      at += chunk.length;
    }
    await disk.truncate(bytes);
  } finally {
    await disk.close();
  }
  await rename(unfinished, path);
}

const EMPTY = Buffer.alloc(PIECE);

function isEmpty(bytes: Buffer): boolean {
  return bytes.equals(EMPTY.subarray(0, bytes.length));
}
