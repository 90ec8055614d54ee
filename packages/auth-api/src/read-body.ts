import type { IncomingMessage } from 'node:http';
import { AuthApiError } from './errors.ts';

/** Largest body: 128 advisories of 256 characters and the fixed fields fit well. */
const MAX_BODY_BYTES = 65_536;

/**
 * Read a bounded body. What is over the limit stays unread, so that the refusal can still be sent.
 * @throws AuthApiError `body-too-large`, or `bad-request` when it is not UTF-8 or ends early
 */
export function readBody(request: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const read = (chunk: Buffer): void => {
      size += chunk.length;
      if (size <= MAX_BODY_BYTES) return void chunks.push(chunk);
      request.off('data', read).pause();
      reject(new AuthApiError('body-too-large', `the body is longer than ${MAX_BODY_BYTES} bytes`));
    };
    request.on('data', read);
    request.once('end', () => {
      try {
        resolve(new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks)));
      } catch (cause) {
        reject(new AuthApiError('bad-request', 'the body is not UTF-8', { cause }));
      }
    });
    const early = (cause?: Error): void =>
      reject(new AuthApiError('bad-request', 'the body ended early', { cause }));
    request.once('error', early);
    request.once('close', () => early());
  });
}
