import { open } from 'node:fs/promises';
import { type DiskPiece, diskArchive } from './disk-archive.ts';

const READ = 1024 * 1024;

/** Archive of a boot disk in a file, read piece by piece. */
export async function* bootArchive(path: string, size: number): AsyncGenerator<Uint8Array> {
  yield* diskArchive(size, piecesOf(path));
}

async function* piecesOf(path: string): AsyncGenerator<DiskPiece> {
  const file = await open(path, 'r');
  try {
    let offset = 0;
    // One for all pieces: each is used up before the next is asked for, and memory waits for no collector.
    const data = new Uint8Array(READ);
    for (;;) {
      const { bytesRead } = await file.read(data, 0, READ, offset);
      if (bytesRead === 0) return;
      yield { offset, data: data.subarray(0, bytesRead) };
      offset += bytesRead;
    }
  } finally {
    await file.close();
  }
}
