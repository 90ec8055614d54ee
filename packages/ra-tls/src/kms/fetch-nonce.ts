import { request } from 'node:https';
import { EncodingError, fromHex } from '@dstack-cloud/encoding';
import { collectBytes } from '@dstack-cloud/runtime';
import { messageOf, RaTlsError } from '../errors.ts';
import { type RaTlsAgentOptions, raTlsAgent } from '../tls/agent.ts';

/** A document has room for so many (docs/protocol/evidence.md section 10). */
const MAX_NONCE_BYTES = 512;
const MAX_ANSWER_BYTES = 4096;
const TIMEOUT_MS = 60_000;

/**
 * A nonce of a KMS for evidence to come (docs/protocol/kms.md section 4.4). The connection proves nothing and need not:
 * a wrong nonce is refused, and says nothing to whoever gave it.
 * @param url of the KMS, ending in `/prpc`
 * @returns undefined from a KMS that has none to give
 * @throws RaTlsError `connection`, `malformed`
 */
export async function fetchNonce(
  url: string,
  {
    timeoutMs = TIMEOUT_MS,
    ...connection
  }: Pick<RaTlsAgentOptions, 'connectTimeoutMs' | 'dial'> & { readonly timeoutMs?: number },
): Promise<Uint8Array | undefined> {
  const agent = raTlsAgent({
    verifyServer: 'dangerously-unverified',
    keepAlive: false,
    ...connection,
  });
  try {
    const text = await get(new URL(url.replace(/\/prpc$/, '/nonce')), agent, timeoutMs);
    return text === undefined ? undefined : nonceOf(text);
  } finally {
    agent.destroy();
  }
}

function get(url: URL, agent: ReturnType<typeof raTlsAgent>, timeoutMs: number): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const fail = (reason: string): void =>
      reject(new RaTlsError('connection', `No nonce from the KMS: ${reason}`));
    const signal = AbortSignal.timeout(timeoutMs);
    const call = request(url, { agent, signal }, (response) => {
      collectBytes(response, MAX_ANSWER_BYTES, () => new Error('the answer is too long')).then(
        // A server that does not know the path answers something else.
        (bytes) => resolve(response.statusCode === 200 ? Buffer.from(bytes).toString() : undefined),
        (error) => fail(messageOf(error)),
      );
    });
    call.on('error', (error) => fail(messageOf(error)));
    call.end();
  });
}

function nonceOf(text: string): Uint8Array {
  try {
    const { nonce } = JSON.parse(text) as { nonce?: unknown };
    const bytes = typeof nonce === 'string' ? fromHex(nonce) : new Uint8Array();
    if (bytes.length > 0 && bytes.length <= MAX_NONCE_BYTES) return bytes;
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof EncodingError || error instanceof TypeError))
      throw error;
  }
  throw new RaTlsError('malformed', 'The KMS answered with something else than a nonce');
}
