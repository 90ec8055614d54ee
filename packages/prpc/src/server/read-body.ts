import type { IncomingMessage } from 'node:http';
import { PrpcError } from '../errors.ts';

/**
 * The whole body of a request, at most `limit` bytes. What comes beyond is thrown away, up to the same amount
 * again, so that the caller can still read the refusal; then the connection is cut.
 * @throws PrpcError `too_large`
 */
export function readBody(request: IncomingMessage, limit: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    let size = 0;
    request.on('data', (chunk: Uint8Array<ArrayBuffer>) => {
      size += chunk.length;
      if (size <= limit) {
        chunks.push(chunk);
      } else if (size > 2 * limit) {
        request.destroy();
      } else if (chunks.length > 0) {
        chunks.length = 0;
      }
    });
    request.on('end', () => {
      if (size > limit) reject(new PrpcError('too_large', 'failed to read data: payload too large'));
      else resolve(join(chunks, size));
    });
    request.on('error', reject);
    request.on('close', () => {
      if (request.readableEnded) return;
      reject(new PrpcError('too_large', 'failed to read data: connection closed'));
    });
  });
}

function join(chunks: readonly Uint8Array<ArrayBuffer>[], size: number): Uint8Array {
  const only = chunks[0];
  // A plain view: a Buffer would leak into every bytes field that the decoder cuts out of it.
  if (chunks.length === 1 && only !== undefined)
    return new Uint8Array(only.buffer, only.byteOffset, only.length);
  const whole = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    whole.set(chunk, offset);
    offset += chunk.length;
  }
  return whole;
}
