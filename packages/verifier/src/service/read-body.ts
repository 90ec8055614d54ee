import type { IncomingMessage } from 'node:http';
import { HttpError } from './http-error.ts';

/** The original's limit (chapter 20 section 8). */
const MAX_BODY_BYTES = 1024 * 1024;

/** The body as text. @throws HttpError 413 above 1 MiB, 400 when it breaks off or is not UTF-8 */
export async function readBody(request: IncomingMessage): Promise<string> {
  const announced = Number(request.headers['content-length'] ?? 0);
  if (announced > MAX_BODY_BYTES) throw tooLarge();
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > MAX_BODY_BYTES) throw tooLarge();
      chunks.push(chunk);
    }
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
  } catch (error) {
    if (error instanceof HttpError) throw error;
    throw new HttpError(400, 'not-json', 'The body broke off or is not UTF-8');
  }
}

function tooLarge(): HttpError {
  return new HttpError(413, 'too-large', `The body is larger than ${MAX_BODY_BYTES} bytes`);
}
