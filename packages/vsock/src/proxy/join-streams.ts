import type { Duplex } from 'node:stream';

/** What flowed, and why it ended. */
export interface Joined {
  readonly sent: number;
  readonly received: number;
  readonly reason: 'ended' | 'idle' | 'error';
}

/**
 * Carries bytes between two streams until both have ended, one fails, or nothing flows for `idleMs`. What waits is
 * bounded by the streams' own buffers: a side that does not read stops the other.
 *
 * @param firstMs how long both may say nothing at the start
 */
export async function joinStreams(
  near: Duplex,
  far: Duplex,
  idleMs: number,
  firstMs: number = idleMs,
): Promise<Joined> {
  return await new Promise((resolve) => {
    let [sent, received, open] = [0, 0, 2];
    const finish = (reason: Joined['reason']): void => {
      if (open < 0) return;
      open = -1;
      clearTimeout(timer);
      if (reason !== 'ended') for (const stream of [near, far]) stream.destroy();
      resolve({ sent, received, reason });
    };
    let timer = setTimeout(() => finish('idle'), Math.min(firstMs, idleMs));
    const flowed = (): void => {
      if (sent + received > 0) return void timer.refresh();
      clearTimeout(timer);
      if (open >= 0) timer = setTimeout(() => finish('idle'), idleMs);
    };
    near.on('data', (chunk: Buffer) => {
      flowed();
      sent += chunk.length;
    });
    far.on('data', (chunk: Buffer) => {
      flowed();
      received += chunk.length;
    });
    for (const stream of [near, far]) {
      stream.on('error', () => finish('error'));
      stream.once('close', () => {
        open -= 1;
        if (open === 0) finish('ended');
        // The other side learns of it, also when this one was cut off.
        (stream === near ? far : near).end();
      });
    }
    near.pipe(far);
    far.pipe(near);
    if (near.destroyed || far.destroyed) finish('error');
  });
}
