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
 */
export async function joinStreams(near: Duplex, far: Duplex, idleMs: number): Promise<Joined> {
  return await new Promise((resolve) => {
    let [sent, received, open] = [0, 0, 2];
    const finish = (reason: Joined['reason']): void => {
      if (open < 0) return;
      open = -1;
      clearTimeout(timer);
      if (reason !== 'ended') for (const stream of [near, far]) stream.destroy();
      resolve({ sent, received, reason });
    };
    const timer = setTimeout(() => finish('idle'), idleMs);
    near.on('data', (chunk: Buffer) => {
      sent += chunk.length;
      timer.refresh();
    });
    far.on('data', (chunk: Buffer) => {
      received += chunk.length;
      timer.refresh();
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
