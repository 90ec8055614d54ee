import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type ArchivedImage, fileRange, readImageFiles, type TarFile } from '@dstack-cloud/app/image-archive';

/** Most blobs of a layout. */
const MAX_BLOBS = 10_000;

/** What images an OCI image layout in a folder has, as if it were in an archive. */
export async function readLayout(folder: string): Promise<readonly ArchivedImage[]> {
  const blobs = await readdir(join(folder, 'blobs/sha256'));
  if (blobs.length > MAX_BLOBS) throw new Error(`it has more than ${MAX_BLOBS} blobs`);
  const files = new Map<string, TarFile>();
  for (const name of ['index.json', ...blobs.map((blob) => `blobs/sha256/${blob}`)]) {
    const path = join(folder, name);
    const { size } = await stat(path);
    files.set(name, {
      name,
      size,
      content: { read: (position, length) => readPart(path, position, length) },
    });
  }
  return await readImageFiles(files);
}

async function readPart(path: string, position: number, length: number): Promise<Uint8Array> {
  const handle = await open(path, 'r');
  try {
    return await fileRange(handle).read(position, length);
  } finally {
    await handle.close();
  }
}
