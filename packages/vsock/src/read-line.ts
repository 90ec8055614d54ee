import type { Duplex } from 'node:stream';

/**
 * Reads up to the first line end and not further: what follows belongs to whoever reads next. A carriage return before the line end is
 * kept.
 *
 * @throws Error when the line is longer than `max` bytes, does not come in time, or the stream ends
 */
export async function readLine(stream: Duplex, max: number, timeoutMs: number): Promise<string> {
  return await new Promise((resolve, reject) => {
    let line = '';
    const timer = setTimeout(() => done(new Error(`no answer within ${timeoutMs / 1000} s`)), timeoutMs);
    const done = (error?: Error): void => {
      clearTimeout(timer);
      stream.off('readable', read);
      stream.off('close', closed);
      stream.off('end', closed);
      stream.off('error', failed);
      if (error === undefined) resolve(line);
      else reject(error);
    };
    const closed = (): void => done(new Error('the connection was closed'));
    const failed = (error: Error): void => done(error);
    const read = (): void => {
      for (;;) {
        const byte = stream.read(1) as Buffer | null;
        if (byte === null) return;
        if (byte[0] === 0x0a) {
          done();
          return;
        }
        line += byte.toString('latin1');
        if (line.length > max) {
          done(new Error('the answer has no end'));
          return;
        }
      }
    };
    stream.on('readable', read);
    stream.once('close', closed);
    stream.once('end', closed);
    stream.once('error', failed);
    read();
  });
}
