import type { IncomingMessage } from 'node:http';
import type { BootInfo } from '@dstack-cloud/policy';
import { type FairTurns, networkOf, takeToll } from '@dstack-cloud/prpc';
import { parseBootRequest } from './boot-request.ts';
import { AuthApiError } from './errors.ts';
import { QUESTION_LIMITS } from './question-limits.ts';
import { announcedBytes, readBody } from './read-body.ts';

/**
 * Read a question that its network still may ask, and parse it when its turn comes.
 * @param turns who has the thread next
 * @throws AuthApiError `too-many-requests`, and those of `readBody` and `parseBootRequest`
 */
export async function readQuestion(request: IncomingMessage, turns: FairTurns): Promise<BootInfo> {
  const announced = announcedBytes(request);
  // What is beyond the limit is not read.
  if (announced !== undefined) charge(request, Math.min(announced, QUESTION_LIMITS.bytes));
  const body = await readBody(request).catch((error: unknown) => {
    if (announced === undefined) charge(request, QUESTION_LIMITS.bytes);
    throw error;
  });
  if (announced === undefined) charge(request, Buffer.byteLength(body));
  await turns.next(networkOf(request.socket.remoteAddress ?? ''));
  return parseBootRequest(body);
}

/** @throws AuthApiError `too-many-requests` when the network has spent what it may cost */
function charge(request: IncomingMessage, bytes: number): void {
  const { freeBytes, costBytes } = QUESTION_LIMITS;
  if (takeToll(request, Math.max(0, bytes - freeBytes) / costBytes)) return;
  throw new AuthApiError('too-many-requests', 'too many large requests from this address; try again later');
}
