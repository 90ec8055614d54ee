import type { Socket } from 'node:net';
import type { Vsock, VsockServer } from '../vsock.ts';

const MAX_BYTES = 8 * 1024;
const LONGEST_MS = 5_000;
/** An enclave reports a few times in its life. */
const MAX_OPEN = 16;

/** Takes what enclaves say of themselves, one text a connection. It is not believed in anything. */
export async function listenReports(
  vsock: Vsock,
  port: number,
  onReport: (cid: number | undefined, text: string) => void,
): Promise<VsockServer> {
  const open = new Set<Socket>();
  const server = await vsock.listen(port, (stream, cid) => {
    stream.on('error', () => stream.destroy());
    if (open.size >= MAX_OPEN) {
      stream.destroy();
      return;
    }
    open.add(stream);
    // From the start on, so that one that trickles keeps no place.
    const timer = setTimeout(() => stream.destroy(), LONGEST_MS);
    stream.once('close', () => {
      clearTimeout(timer);
      open.delete(stream);
    });
    const chunks: Buffer[] = [];
    let length = 0;
    stream.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > MAX_BYTES) stream.destroy();
      else chunks.push(chunk);
    });
    stream.once('end', () => {
      if (length > 0) onReport(cid, Buffer.concat(chunks).toString('utf8').trim());
      stream.end();
    });
  });
  return {
    close: async () => {
      await server.close();
      for (const stream of open) stream.destroy();
    },
  };
}
