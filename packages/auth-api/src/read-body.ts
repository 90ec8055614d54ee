import type { IncomingMessage } from 'node:http';
import { AuthApiError } from './errors.ts';

/** Largest body: 128 advisories of 256 characters and the fixed fields fit well. */
const MAX_BODY_BYTES = 65_536;

/**
 * Read a bounded body.
 * @throws AuthApiError `body-too-large`, or `bad-request` when it is not UTF-8 or ends early
 */
export async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > MAX_BODY_BYTES) break;
      chunks.push(chunk);
    }
  } catch (cause) {
    throw new AuthApiError('bad-request', 'the body ended early', { cause });
  }
  if (size > MAX_BODY_BYTES) {
    throw new AuthApiError('body-too-large', `the body is longer than ${MAX_BODY_BYTES} bytes`);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
  } catch (cause) {
    throw new AuthApiError('bad-request', 'the body is not UTF-8', { cause });
  }
}
