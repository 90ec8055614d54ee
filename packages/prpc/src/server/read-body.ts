import type { IncomingMessage } from 'node:http';
import { PrpcError } from '../errors.ts';
import { networkOf } from './connections/network-of.ts';

/** A body of this size is taken however many large ones are under way, which anybody may begin and not end. */
const SMALL_BODY = 65_536;

/** So much of a body that is too large is read and thrown away, so that its sender can read the refusal. */
const MAX_DISCARDED = 16 * 2 ** 20;

/** Part of the budget that the large bodies of one network may have. */
const NETWORK_SHARE = 1 / 4;

/** Bytes of unfinished bodies that a handler holds. */
export class BodyBudget {
  readonly #max: number;
  readonly #usedBy = new Map<string, number>();
  #used = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** Counts bytes of a network; negative ones are given back. */
  count(network: string, bytes: number): void {
    this.#used += bytes;
    const used = (this.#usedBy.get(network) ?? 0) + bytes;
    if (used > 0) this.#usedBy.set(network, used);
    else this.#usedBy.delete(network);
  }

  /** Whether large bodies of a network must be turned away. */
  isSpent(network: string): boolean {
    // A Unix socket has no networks.
    const share = network === '' ? this.#max : this.#max * NETWORK_SHARE;
    return this.#used > this.#max || (this.#usedBy.get(network) ?? 0) > share;
  }
}

/**
 * The whole body of a request, at most `limit` bytes. What comes beyond is thrown away, up to 16 MiB, so that the caller
 * can still read the refusal; then the connection is cut.
 * @param budget shared by the requests of a handler: many large bodies at once must not fill the memory
 * @throws PrpcError `too_large`; status 503 for a large body when the budget is spent
 */
export function readBody(
  request: IncomingMessage,
  limit: number,
  budget: BodyBudget = new BodyBudget(Number.POSITIVE_INFINITY),
): Promise<Uint8Array> {
  const network = networkOf(request.socket.remoteAddress ?? '');
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    let size = 0;
    let held = 0;
    let isCrowded = false;
    // Nothing is kept of a body that says that it is too large.
    let isTooLarge = Number(request.headers['content-length'] ?? 0) > limit;
    const drop = (): void => {
      chunks.length = 0;
      budget.count(network, -held);
      held = 0;
    };
    request.on('data', (chunk: Uint8Array<ArrayBuffer>) => {
      size += chunk.length;
      isTooLarge ||= size > limit;
      if (!isTooLarge && !isCrowded) {
        budget.count(network, chunk.length);
        held += chunk.length;
        chunks.push(chunk);
        isCrowded = held > SMALL_BODY && budget.isSpent(network);
      }
      if (size > limit + MAX_DISCARDED) request.destroy();
      else if (isTooLarge || isCrowded) drop();
    });
    request.on('end', () => {
      const body = isTooLarge || isCrowded ? undefined : join(chunks, size);
      drop();
      if (body !== undefined) resolve(body);
      else if (isTooLarge) reject(new PrpcError('too_large', 'failed to read data: payload too large'));
      else reject(new PrpcError('too_large', 'Too many large requests at once; try again', { status: 503 }));
    });
    request.on('error', reject);
    request.on('close', () => {
      drop();
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
