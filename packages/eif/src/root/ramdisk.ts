import { open } from 'node:fs/promises';
import { cpioHeader, cpioTrailer } from '@dstack-cloud/os-image/cpio';
import { type ByteSource, bytesSource, CHUNK, chunks } from '../byte-source.ts';
import { EifError } from '../errors.ts';
import { bytePath } from './read-folder.ts';
import { type ByteName, type Content, type RootEntry, type RootTree, shown } from './root-tree.ts';

/** Largest file of cpio `newc`, whose sizes have 32 bits. */
const MAX_FILE = 0xffff_ffff;
/** Folders that the enclave's init mounts on. */
const MOUNT_POINTS = ['dev', 'proc', 'run', 'sys', 'tmp', 'var'];
const TYPES: Readonly<Record<RootEntry['kind'], number>> = {
  fifo: 0o010000,
  'character-device': 0o020000,
  directory: 0o040000,
  'block-device': 0o060000,
  file: 0o100000,
  symlink: 0o120000,
};

/** A ramdisk whose length is known before its bytes are read. */
export interface Ramdisk {
  readonly size: number;
  bytes(): AsyncIterable<Uint8Array>;
}

/**
 * The second ramdisk: the root below `rootfs/`, and `cmd` and `env` for the enclave's init. Its bytes follow from names,
 * contents, modes and owners alone: sorted names, no times, inode numbers in order, each link count 1 (docs/protocol/images.md
 * section 6.6).
 *
 * @throws EifError `too-large` for files that the format cannot hold
 */
export function applicationRamdisk(tree: RootTree, command: Uint8Array, environment: Uint8Array): Ramdisk {
  for (const name of MOUNT_POINTS)
    if (tree.get(name) === undefined)
      tree.set(name, { kind: 'directory', mode: 0o755, uid: 0, gid: 0 }, Number.POSITIVE_INFINITY);
  return ramdisk([
    { path: 'cmd', entry: memoryFile('cmd', command, 0o644) },
    { path: 'env', entry: memoryFile('env', environment, 0o644) },
    { path: 'rootfs', entry: { kind: 'directory', mode: 0o755, uid: 0, gid: 0 } },
    ...tree.entries().map(({ path, entry }) => ({ path: `rootfs/${path}`, entry })),
  ]);
}

/** The first ramdisk: `init`, and the module of `/dev/nsm`. */
export function bootRamdisk(init: ByteSource, nsm: ByteSource | undefined): Ramdisk {
  const file = (source: ByteSource): RootEntry => ({
    kind: 'file',
    mode: 0o755,
    uid: 0,
    gid: 0,
    size: source.size,
    content: { source, offset: 0 },
  });
  return ramdisk([
    { path: 'dev', entry: { kind: 'directory', mode: 0o755, uid: 0, gid: 0 } },
    { path: 'init', entry: file(init) },
    ...(nsm === undefined ? [] : [{ path: 'nsm.ko', entry: file(nsm) }]),
  ]);
}

type Member = { readonly path: ByteName; readonly entry: RootEntry };

function ramdisk(members: readonly Member[]): Ramdisk {
  let size = cpioTrailer().length;
  for (const member of members) size += header(member, 0).length + padded(dataSize(member.entry));
  return { size, bytes: () => write(members) };
}

/** Pieces of about {@link CHUNK}: small members are joined. */
async function* write(members: readonly Member[]): AsyncGenerator<Uint8Array> {
  const pending = new ChunkBuffer();
  for (const [inode, member] of members.entries()) {
    pending.add(header(member, inode));
    const { entry } = member;
    if (entry.kind === 'symlink') pending.add(bytePath(entry.target));
    if (entry.kind === 'file' && entry.size > 0)
      for await (const piece of contentOf(entry, member.path)) {
        if (pending.size + piece.length > CHUNK) yield pending.take();
        if (piece.length >= CHUNK) yield piece;
        else pending.add(piece);
      }
    pending.add(new Uint8Array(padded(dataSize(entry)) - dataSize(entry)));
    if (pending.size > CHUNK / 2) yield pending.take();
  }
  pending.add(cpioTrailer());
  yield pending.take();
}

class ChunkBuffer {
  #bytes = new Uint8Array(2 * CHUNK);
  size = 0;

  add(piece: Uint8Array): void {
    if (this.size + piece.length > this.#bytes.length) {
      const larger = new Uint8Array(2 * (this.size + piece.length));
      larger.set(this.#bytes.subarray(0, this.size));
      this.#bytes = larger;
    }
    this.#bytes.set(piece, this.size);
    this.size += piece.length;
  }

  take(): Uint8Array {
    const taken = this.#bytes.subarray(0, this.size);
    // The taken piece may still be on its way to the disk.
    this.#bytes = new Uint8Array(2 * CHUNK);
    this.size = 0;
    return taken;
  }
}

function header({ path, entry }: Member, inode: number): Uint8Array {
  const size = dataSize(entry);
  if (size > MAX_FILE)
    throw new EifError('too-large', `${shown(path)} is too long for a ramdisk`, {
      expected: `at most ${MAX_FILE} bytes`,
      found: `${size} bytes`,
    });
  const { mode, uid, gid } = entry;
  const device = 'major' in entry ? { major: entry.major, minor: entry.minor } : {};
  return cpioHeader({
    inode,
    mode: TYPES[entry.kind] | mode,
    uid,
    gid,
    size,
    ...device,
    name: bytePath(path),
  });
}

function dataSize(entry: RootEntry): number {
  if (entry.kind === 'file') return entry.size;
  return entry.kind === 'symlink' ? entry.target.length : 0;
}

function padded(size: number): number {
  return Math.ceil(size / 4) * 4;
}

function memoryFile(name: string, bytes: Uint8Array, mode: number): RootEntry {
  const content: Content = { source: bytesSource(name, bytes), offset: 0 };
  return { kind: 'file', mode, uid: 0, gid: 0, size: bytes.length, content };
}

async function* contentOf(
  { content, size }: RootEntry & { kind: 'file' },
  path: ByteName,
): AsyncGenerator<Uint8Array> {
  if ('source' in content) return yield* chunks(content.source, content.offset, size);
  const handle = await open(bytePath(content.path), 'r');
  try {
    let left = size;
    while (left > 0) {
      const piece = new Uint8Array(Math.min(CHUNK, left));
      const { bytesRead } = await handle.read(piece, 0, piece.length);
      if (bytesRead === 0) failChanged(path);
      yield piece.subarray(0, bytesRead);
      left -= bytesRead;
    }
    if ((await handle.read(new Uint8Array(1), 0, 1)).bytesRead > 0) failChanged(path);
  } finally {
    await handle.close();
  }
}

function failChanged(path: ByteName): never {
  throw new EifError('changed', `${shown(path)} changed its length while the image was built`, {
    hint: 'Build again while nothing writes to the folder',
  });
}
