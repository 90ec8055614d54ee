import type { Socket } from 'node:net';

/** What a reader makes of the bytes so far; `more` asks for more. */
type Reading<T> = T | 'more';

/**
 * Reads from a socket until `read` has what it needs, and leaves the socket paused. The bytes that `read` was given last
 * are returned with its result; nothing is consumed.
 * @returns undefined when the socket ended, failed or was too slow
 */
export async function readBeginning<T extends object>(
  socket: Socket,
  read: (bytes: Buffer) => Reading<T>,
  timeoutMs: number,
  already: Buffer = Buffer.alloc(0),
): Promise<{ readonly bytes: Buffer; readonly result: T } | undefined> {
  let bytes = already;
  if (bytes.length > 0) {
    const result = read(bytes);
    if (result !== 'more') return { bytes, result };
  }
  return await new Promise((resolve) => {
    const finish = (found: { bytes: Buffer; result: T } | undefined): void => {
      clearTimeout(timer);
      socket.pause();
      socket.off('data', onData);
      socket.off('end', onEnd);
      socket.off('close', onEnd);
      resolve(found);
    };
    const onData = (chunk: Buffer): void => {
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
      const result = read(bytes);
      if (result !== 'more') finish({ bytes, result });
    };
    const onEnd = (): void => finish(undefined);
    const timer = setTimeout(onEnd, timeoutMs);
    if (socket.destroyed || socket.readableEnded) return onEnd();
    socket.on('data', onData);
    socket.once('end', onEnd);
    socket.once('close', onEnd);
    socket.resume();
  });
}
