import { createHmac } from 'node:crypto';
import { PolicyError } from '@dstack-cloud/policy';
import {
  backendUrl,
  type Connections,
  exchange,
  isPlainRemote,
  openConnections,
} from '@dstack-cloud/policy/following';
import { WatcherError } from '../errors.ts';

/** Of the answer nothing counts but its status. */
const MAX_ANSWER_BYTES = 65_536;

/** Where messages are posted, signed. */
export class Webhook {
  readonly #url: URL;
  readonly #secret: string;
  readonly #timeoutMs: number;
  readonly #connections: Connections;

  /** @throws WatcherError `bad-configuration` for plain HTTP beyond this machine */
  constructor(url: string, secret: string, timeoutMs: number) {
    this.#url = backendUrl(url, 'webhook.url');
    if (isPlainRemote(this.#url))
      throw new WatcherError('bad-configuration', 'webhook.url must be https', { expected: 'https' });
    this.#secret = secret;
    this.#timeoutMs = timeoutMs;
    this.#connections = openConnections(this.#url);
  }

  /** @param now Unix seconds, signed with the body, so that a receiver can refuse old ones. @throws Error saying why */
  async post(body: string, now: number): Promise<void> {
    const time = Math.floor(now);
    const answer = await exchange({
      method: 'POST',
      url: this.#url,
      headers: {
        'content-type': 'application/json',
        'user-agent': 'dstack-watcher',
        'dstack-signature': `t=${time},v1=${signature(this.#secret, time, body)}`,
      },
      body,
      timeoutMs: this.#timeoutMs,
      maxBytes: MAX_ANSWER_BYTES,
      connections: this.#connections,
    }).catch((cause: unknown) => {
      const why = cause instanceof PolicyError ? cause.message.replace(/^.*?: /, '') : 'it failed';
      throw new Error(`${this.#url.origin}: ${why}`, { cause });
    });
    if (answer.status < 200 || answer.status > 299)
      throw new Error(`${this.#url.origin} answered HTTP ${answer.status}`);
  }

  close(): void {
    this.#connections.close();
  }
}

/** HMAC-SHA-256 (RFC 2104) over the time and the body. */
function signature(secret: string, time: number, body: string): string {
  return createHmac('sha256', secret).update(`${time}.${body}`).digest('hex');
}
