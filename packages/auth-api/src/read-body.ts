import type { IncomingMessage } from 'node:http';
import { AuthApiError } from './errors.ts';
import { QUESTION_LIMITS } from './question-limits.ts';

/** Length that a request gives for its body; undefined for one in chunks (RFC 9112 section 6.3). */
export function announcedBytes({ headers }: Pick<IncomingMessage, 'headers'>): number | undefined {
  return headers['transfer-encoding'] === undefined ? Number(headers['content-length'] ?? 0) : undefined;
}

/**
 * Read a bounded body. What is over the limit stays unread, all of it where the request gives its length.
 * @throws AuthApiError `body-too-large`, or `bad-request` when it is not UTF-8 or ends early
 */
export function readBody(request: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const tooLarge = (): void =>
      reject(new AuthApiError('body-too-large', `the body is longer than ${QUESTION_LIMITS.bytes} bytes`));
    if ((announcedBytes(request) ?? 0) > QUESTION_LIMITS.bytes) return tooLarge();
    const read = (chunk: Buffer): void => {
      size += chunk.length;
      if (size <= QUESTION_LIMITS.bytes) return void chunks.push(chunk);
      request.off('data', read).pause();
      tooLarge();
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
