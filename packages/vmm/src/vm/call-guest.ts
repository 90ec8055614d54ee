import { request } from 'node:http';
import { VmmError } from '../errors.ts';
import { dialGuest, GUEST_API_PORT } from './vsock.ts';

const MAX_ANSWER = 8 * 1024 * 1024;

/**
 * Calls a method of the guest agent's GuestApi, which serves the machine's host alone. What it answers is the guest's word.
 *
 * @param runDir run folder of the machine
 * @throws VmmError `not_running` when there is no answer, `boot_failed` when the guest refuses, or answers no JSON
 */
export async function callGuest(
  runDir: string,
  method: string,
  body: object = {},
  timeoutMs: number = 10_000,
): Promise<unknown> {
  const socket = await dialGuest(runDir, GUEST_API_PORT);
  const text = JSON.stringify(body);
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
  const options = { method: 'POST', path: `/api/${method}?json`, host: 'guest', headers };
  const answer = await new Promise<{ status: number; text: string }>((resolve, reject) => {
    const fail = (cause: Error): void => {
      socket.destroy();
      reject(new VmmError('not_running', `The guest does not answer ${method}: ${cause.message}`, { cause }));
    };
    const timer = setTimeout(() => fail(new Error(`nothing within ${timeoutMs / 1000} s`)), timeoutMs);
    const outgoing = request({ ...options, createConnection: () => socket }, (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_ANSWER) fail(new Error(`more than ${MAX_ANSWER} bytes`));
        else chunks.push(chunk);
      });
      response.once('error', fail);
      response.once('end', () => {
        clearTimeout(timer);
        socket.destroy();
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') });
      });
    });
    outgoing.once('error', (error) => {
      clearTimeout(timer);
      fail(error);
    });
    outgoing.end(text);
  });
  if (answer.status !== 200)
    throw new VmmError('boot_failed', `The guest refuses ${method}: ${answer.text.slice(0, 512)}`);
  try {
    return answer.text === '' ? {} : JSON.parse(answer.text);
  } catch (cause) {
    throw new VmmError('boot_failed', `The guest answers ${method} with something that is no JSON`, {
      cause,
    });
  }
}
