import type { IncomingMessage } from 'node:http';
import { type BodyBudget, PrpcError, readBody } from '@dstack-cloud/prpc';
import { HttpError } from './http-error.ts';

/** The original's limit. */
const MAX_BODY_BYTES = 1024 * 1024;

/**
 * The whole body.
 * @throws HttpError 413 above 1 MiB, 400 when it breaks off, 503 when too many large ones are under way
 */
export async function bodyOf(request: IncomingMessage, budget: BodyBudget): Promise<Uint8Array> {
  try {
    return await readBody(request, MAX_BODY_BYTES, budget);
  } catch (error) {
    if (!request.complete) throw new HttpError(400, 'not-json', 'The body broke off');
    if (!(error instanceof PrpcError)) throw error;
    if (error.status === 503) throw new HttpError(503, 'busy', error.message);
    throw new HttpError(413, 'too-large', `The body is larger than ${MAX_BODY_BYTES} bytes`);
  }
}
