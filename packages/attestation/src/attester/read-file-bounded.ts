import { constants, open } from 'node:fs/promises';
import { AttestationError } from '../errors.ts';

/** A file of at most `max` bytes, also one of the kernel whose size is not told. @throws AttestationError `device`, `too-large` */
export async function readFileBounded(path: string, max: number): Promise<Uint8Array> {
  try {
    // Without O_NONBLOCK a FIFO in its place would be waited for.
    const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      if (!(await handle.stat()).isFile()) throw new AttestationError('device', `${path} is no regular file`);
      const buffer = new Uint8Array(max + 1);
      let length = 0;
      for (;;) {
        const { bytesRead } = await handle.read(buffer, length, buffer.length - length, null);
        length += bytesRead;
        if (length > max) throw new AttestationError('too-large', `${path} exceeds ${max} bytes`);
        if (bytesRead === 0) return buffer.slice(0, length);
      }
    } finally {
      await handle.close();
    }
  } catch (cause) {
    if (cause instanceof AttestationError) throw cause;
    throw new AttestationError('device', `Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}
