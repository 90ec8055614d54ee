import type { Socket } from 'node:net';

/** What a reader makes of the bytes so far, or how many it needs. */
type Reading = { readonly kind: string } | { readonly kind: 'more'; readonly atLeast: number };

/**
 * Reads from a socket until `read` has what it needs, and leaves the socket paused. The bytes that `read` was given last
 * are returned with its result; nothing is consumed.
 * @returns undefined when the socket ended, failed or was too slow
 */
export async function readBeginning<T extends Reading>(
  socket: Socket,
  read: (bytes: Buffer) => T,
  timeoutMs: number,
  already: Buffer = Buffer.alloc(0),
): Promise<{ readonly bytes: Buffer; readonly result: Exclude<T, { readonly kind: 'more' }> } | undefined> {
  const chunks: Buffer[] = [already];
  let [length, wanted] = [already.length, 1];
  /** What was read; undefined while there is too little. Pieces are put together only when that can say more. */
  const attempt = (): { bytes: Buffer; result: Exclude<T, { readonly kind: 'more' }> } | undefined => {
    if (length < wanted) return undefined;
    const bytes = Buffer.concat(chunks.splice(0));
    chunks.push(bytes);
    const result = read(bytes);
    if (result.kind !== 'more') return { bytes, result: result as Exclude<T, { readonly kind: 'more' }> };
    wanted = (result as { readonly atLeast: number }).atLeast;
    return undefined;
  };
  const first = attempt();
  if (first !== undefined) return first;
  return await new Promise((resolve) => {
    const finish = (found: ReturnType<typeof attempt>): void => {
      clearTimeout(timer);
      socket.pause();
      socket.off('data', onData);
      socket.off('end', onEnd);
      socket.off('close', onEnd);
      resolve(found);
    };
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk);
      length += chunk.length;
      const found = attempt();
      if (found !== undefined) finish(found);
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
