import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { DeviceFault, type DeviceFiles, deviceFault } from '../device-files.ts';
import { flock } from '../native/flock.ts';

/** What this adapter needs of the file system; tests make it fail. */
export interface DirectoryFileSystem {
  open(path: string, flags: string): Promise<Pick<FileHandle, 'read' | 'write' | 'close' | 'fd'>>;
}

/** The file that is locked while the entry is in use. */
const LOCKED_FILE = 'inblob';

/** Files of a kernel directory: a configfs-tsm report entry, or the RTMR folder of sysfs. */
export function directoryFiles(directory: string, fs: DirectoryFileSystem = { open }): DeviceFiles {
  return {
    async read(file, max) {
      return await withFile(fs, join(directory, file), 'r', async (handle) => {
        // One byte more than allowed shows that there is more.
        const buffer = new Uint8Array(max + 1);
        let length = 0;
        for (;;) {
          const { bytesRead } = await handle.read(buffer, length, buffer.length - length, null);
          length += bytesRead;
          if (bytesRead === 0 || length > max) break;
        }
        if (length > max) throw new DeviceFault('EFBIG', `${file} holds more than ${max} bytes`);
        return buffer.subarray(0, length);
      });
    },
    async write(file, data) {
      await withFile(fs, join(directory, file), 'w', async (handle) => {
        const { bytesWritten } = await handle.write(data, 0, data.length, null);
        if (bytesWritten !== data.length) {
          throw new DeviceFault('EIO', `${file} took ${bytesWritten} of ${data.length} bytes`);
        }
      });
    },
    async exclusive(body) {
      return await withFile(fs, join(directory, LOCKED_FILE), 'w', async (handle) => {
        // Where no native call is to be had, the generation numbers still show a second user.
        await flock(handle.fd);
        return await body();
      });
    },
    close: async () => {},
  };
}

async function withFile<T>(
  fs: DirectoryFileSystem,
  path: string,
  flags: string,
  body: (handle: Awaited<ReturnType<DirectoryFileSystem['open']>>) => Promise<T>,
): Promise<T> {
  let handle: Awaited<ReturnType<DirectoryFileSystem['open']>>;
  try {
    handle = await fs.open(path, flags);
  } catch (cause) {
    throw deviceFault(cause, path);
  }
  let result: T;
  try {
    result = await body(handle);
  } catch (cause) {
    await handle.close().catch(() => undefined);
    throw cause instanceof Error && 'code' in cause && !(cause instanceof DeviceFault) && 'syscall' in cause
      ? deviceFault(cause, path)
      : cause;
  }
  // A kernel may report a refused write only when the file is closed.
  await handle.close().catch((cause: unknown) => {
    throw deviceFault(cause, path);
  });
  return result;
}
