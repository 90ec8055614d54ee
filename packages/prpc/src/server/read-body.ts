import type { IncomingMessage } from 'node:http';
import { PrpcError } from '../errors.ts';

/** A body of this size is taken however many large ones are under way, which anybody may begin and not end. */
const SMALL_BODY = 65_536;

/** Bytes of unfinished bodies that a handler holds, and how many it may hold. */
export type BodyBudget = { used: number; readonly max: number };

/**
 * The whole body of a request, at most `limit` bytes. What comes beyond is thrown away, up to the same amount
 * again, so that the caller can still read the refusal; then the connection is cut.
 * @param budget shared by the requests of a handler: many large bodies at once must not fill the memory
 * @throws PrpcError `too_large`; status 503 for a large body when the budget is spent
 */
export function readBody(
  request: IncomingMessage,
  limit: number,
  budget: BodyBudget = { used: 0, max: Number.POSITIVE_INFINITY },
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    let size = 0;
    let held = 0;
    let crowded = false;
    const release = (): void => {
      budget.used -= held;
      held = 0;
    };
    request.on('data', (chunk: Uint8Array<ArrayBuffer>) => {
      size += chunk.length;
      if (size <= limit && !crowded) {
        budget.used += chunk.length;
        held += chunk.length;
        chunks.push(chunk);
        crowded = held > SMALL_BODY && budget.used > budget.max;
      } else if (size > 2 * limit) {
        request.destroy();
      } else if (chunks.length > 0) {
        chunks.length = 0;
      }
    });
    request.on('end', () => {
      release();
      if (crowded)
        reject(new PrpcError('too_large', 'Too many large requests at once; try again', { status: 503 }));
      else if (size > limit) reject(new PrpcError('too_large', 'failed to read data: payload too large'));
      else resolve(join(chunks, size));
    });
    request.on('error', reject);
    request.on('close', () => {
      release();
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
