import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Pack, pack } from 'tar-stream';
import { OsImageError } from '../errors.ts';

const BLOCK = 512;
/** Most files of an OCI image layout. */
const MAX_FILES = 10_000;
/** Modes, owners and times say nothing: equal images give equal disks. */
const HEADER = { mode: 0o644, uid: 0, gid: 0, mtime: new Date(0) } as const;

/**
 * Writes a disk of container images for a machine: a tar archive of `docker load` archives, which the guest reads as it is,
 * so that no file system of the host's making is mounted there. Folders are OCI image layouts and become archives. The
 * same images give the same bytes.
 *
 * @param sources files and folders, which were checked before
 * @returns SHA-256 of the disk, hex
 * @throws OsImageError when a file changes meanwhile
 */
export async function writeImagesDisk(sources: readonly string[], output: string): Promise<string> {
  const disk = pack();
  const hash = createHash('sha256');
  const hashed = async function* (bytes: AsyncIterable<Uint8Array>) {
    for await (const piece of bytes) {
      hash.update(piece);
      yield piece;
    }
  };
  const target = createWriteStream(output, { flags: 'wx', mode: 0o600, flush: true });
  const written = pipeline(Readable.from(disk as AsyncIterable<Uint8Array>), hashed, target);
  const write = async (): Promise<void> => {
    for (const [index, source] of sources.entries()) {
      const name = `${String(index).padStart(3, '0')}.tar`;
      if ((await stat(source)).isDirectory()) await addLayout(disk, name, source);
      else await addFile(disk, name, source);
    }
    disk.finalize();
  };
  await Promise.all([written, write().catch(destroying(disk))]);
  return hash.digest('hex');
}

/** The other end of a stream learns of an error too. */
function destroying(stream: Pack): (cause: Error) => never {
  return (cause) => {
    stream.destroy(cause);
    throw cause;
  };
}

/** How large that disk is, bytes. */
export async function imagesDiskSize(sources: readonly string[]): Promise<number> {
  let size = 2 * BLOCK;
  for (const source of sources) {
    const info = await stat(source);
    const bytes = info.isDirectory() ? archiveSize(await layoutFiles(source)) : info.size;
    size += memberSize(bytes);
  }
  return size;
}

async function addFile(archive: Pack, name: string, source: string): Promise<void> {
  const { size } = await stat(source);
  const entry = archive.entry({ ...HEADER, name, size });
  await pipeline(createReadStream(source), entry).catch((cause: unknown) => {
    throw new OsImageError('build-failed', `${source} cannot be read, or changed while it was read`, {
      cause,
    });
  });
}

async function addLayout(disk: Pack, name: string, folder: string): Promise<void> {
  const files = await layoutFiles(folder);
  const entry = disk.entry({ ...HEADER, name, size: archiveSize(files) });
  const inner = pack();
  const written = pipeline(inner, entry);
  const write = async (): Promise<void> => {
    for (const file of files) await addFile(inner, file.name, join(folder, file.name));
    inner.finalize();
  };
  await Promise.all([written, write().catch(destroying(inner))]);
}

interface LayoutFile {
  readonly name: string;
  readonly size: number;
}

/** The files of an OCI image layout, and nothing else that lies there. */
async function layoutFiles(folder: string): Promise<LayoutFile[]> {
  const blobs = await readdir(join(folder, 'blobs/sha256'));
  const names = blobs.filter((name) => /^[0-9a-f]{64}$/.test(name)).map((name) => `blobs/sha256/${name}`);
  if (names.length > MAX_FILES)
    throw new OsImageError(
      'format',
      `${folder} has more than ${MAX_FILES} blobs, which is too many for an image`,
    );
  const files: LayoutFile[] = [];
  for (const name of [...names, 'index.json', 'oci-layout'].sort()) {
    const info = await stat(join(folder, name));
    if (!info.isFile()) throw new OsImageError('format', `${join(folder, name)} is no regular file`);
    files.push({ name, size: info.size });
  }
  // An engine before Docker 25 reads this list of its own instead.
  const older = await readFile(join(folder, 'manifest.json')).catch(absent);
  if (older !== undefined) files.push({ name: 'manifest.json', size: older.length });
  return files.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function archiveSize(files: readonly LayoutFile[]): number {
  return files.reduce((total, { size }) => total + memberSize(size), 2 * BLOCK);
}

function memberSize(bytes: number): number {
  return BLOCK + Math.ceil(bytes / BLOCK) * BLOCK;
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
