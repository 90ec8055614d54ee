import { writeSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncDirectory } from '@dstack-cloud/files';

/** An append-only file; tests put one in its place that fails. */
export interface AppendFile {
  /** Appends bytes; on failure some of them may be in the file. */
  append(bytes: Uint8Array): Promise<void>;
  /** Makes everything appended durable. */
  sync(): Promise<void>;
  /** Cuts the file to `length` bytes. */
  truncate(length: number): Promise<void>;
  close(): Promise<void>;
}

export type OpenAppendFile = (path: string) => Promise<AppendFile>;

/** Opens (or creates, mode 0600) a file for appending; the directory entry of a new file is made durable. */
export const openAppendFile: OpenAppendFile = async (path) => {
  const file = await open(path, 'a', 0o600);
  try {
    await syncDirectory(dirname(path));
  } catch (error) {
    await file.close();
    throw error;
  }
  return wrap(file);
};

function wrap(file: FileHandle): AppendFile {
  return {
    append: async (bytes) => appendAll(file.fd, bytes),
    sync: () => file.datasync(),
    truncate: (length) => file.truncate(length),
    close: () => file.close(),
  };
}

/**
 * Into the page cache, which takes microseconds; to hand a few hundred bytes to another thread and back takes longer.
 * A write may take a part only, as on a disk that is almost full; then the rest follows.
 */
function appendAll(descriptor: number, bytes: Uint8Array): void {
  for (let offset = 0; offset < bytes.length; ) {
    const written = writeSync(descriptor, bytes, offset, bytes.length - offset);
    if (written === 0) throw new Error('Nothing could be written');
    offset += written;
  }
}
