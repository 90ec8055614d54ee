import type { IncomingMessage } from 'node:http';
import { utf8Text } from '@dstack-cloud/encoding';
import { VmmError } from '../../errors.ts';
import { BrokenOff, registryFailed } from './registry-error.ts';
import { asRegistryError } from './registry-request.ts';

/** Largest manifest, list of tags or answer with a token, bytes. */
const MAX_JSON = 4 * 2 ** 20;
/** A server may be slow, but not keep us for ever: so much arrives in each span of time, or it is given up. */
const LEAST_BYTES = 64 * 1024;

type Pace = { readonly spanMs: number };

/**
 * The bytes of an answer.
 *
 * @param limits.max most that may arrive
 * @throws VmmError `registry_failed` when it is longer, slower or breaks off
 */
export async function* bodyOf(
  response: IncomingMessage,
  signal: AbortSignal,
  { max, spanMs }: { readonly max: number; readonly spanMs: number },
): AsyncGenerator<Uint8Array> {
  let total = 0;
  let before = 0;
  let isWaiting = true;
  const pace = setInterval(() => {
    // A reader of ours that is slow is not the server's fault.
    if (isWaiting && total - before < LEAST_BYTES)
      response.destroy(new BrokenOff(`it sends fewer than ${LEAST_BYTES} bytes in ${spanMs / 1000} seconds`));
    before = total;
  }, spanMs);
  // Also when nobody reads to the end.
  response.once('close', () => clearInterval(pace));
  try {
    for await (const chunk of response as AsyncIterable<Uint8Array>) {
      total += chunk.length;
      if (total > max) throw registryFailed(`its answer has more than ${max} bytes`);
      isWaiting = false;
      yield chunk;
      isWaiting = true;
    }
    if (!response.complete) throw new BrokenOff('failed to read blob body: the connection broke off');
  } catch (error) {
    if (error instanceof VmmError && !signal.aborted) throw error;
    throw asRegistryError(error as Error, 'failed to read blob body', signal);
  } finally {
    clearInterval(pace);
    response.destroy();
  }
}

/** A small answer whole. @throws VmmError `registry_failed` */
export async function readSmall(
  response: IncomingMessage,
  signal: AbortSignal,
  { spanMs }: Pace,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of bodyOf(response, signal, { max: MAX_JSON, spanMs })) chunks.push(chunk);
  return new Uint8Array(Buffer.concat(chunks));
}

/** A small answer as a JSON object. @throws VmmError `registry_failed` */
export async function readJson(response: IncomingMessage, signal: AbortSignal, pace: Pace): Promise<object> {
  return jsonOf(await readSmall(response, signal, pace));
}

/** @throws VmmError `registry_failed` unless it is a JSON object */
export function jsonOf(bytes: Uint8Array): object {
  let value: unknown;
  try {
    value = JSON.parse(utf8Text(bytes));
  } catch (cause) {
    throw registryFailed('its answer is no JSON', cause);
  }
  if (typeof value !== 'object' || value === null) throw registryFailed('its answer is no JSON object');
  return value;
}
