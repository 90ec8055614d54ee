import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { GatewayError } from '../errors.ts';

/** One attempt at one member; two of them are what a guest waits for before it asks another gateway. */
const CALL_TIMEOUT_MS = 1_000;
/** A stream of a member that is cut off says nothing: so often that very member is asked whether it is there. */
const PING_MS = 2_000;
const MAX_ANSWER = 64 * 2 ** 20;
/** etcd takes requests of 1.5 MiB and events in one line each. */
const MAX_LINE = 16 * 2 ** 20;

export type EtcdOptions = {
  /** `https://host:port`; the first that answers is asked until it does not. */
  readonly endpoints: readonly string[];
  /** PEM: the CA of the members, and the certificate and key that we show. Absent for plain HTTP. */
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string };
};

/** The JSON form of etcd's API (gRPC gateway, `/v3`), over TLS with a client certificate. */
export class EtcdClient {
  readonly #options: EtcdOptions;
  readonly #agents: { readonly http: HttpAgent; readonly https: HttpsAgent };
  #first = 0;

  constructor(options: EtcdOptions) {
    this.#options = options;
    this.#agents = {
      http: new HttpAgent({ keepAlive: true, maxSockets: 64 }),
      https: new HttpsAgent({ keepAlive: true, maxSockets: 64, minVersion: 'TLSv1.2', ...options.tls }),
    };
  }

  /** @throws GatewayError `state` when no member answers */
  async call<T>(path: string, body: object): Promise<T> {
    const { endpoints } = this.#options;
    const failures: string[] = [];
    const start = this.#first;
    // Two attempts: whoever waits for more than that is better served by another gateway.
    for (let tries = 0; tries < Math.min(2, endpoints.length); tries++) {
      const index = (start + tries) % endpoints.length;
      try {
        const answer = await this.#ask(endpoints[index]!, path, body);
        this.#first = index;
        return answer as T;
      } catch (error) {
        failures.push(`${endpoints[index]}: ${(error as Error).message}`);
        if (this.#first === index) this.#first = (index + 1) % endpoints.length;
      }
    }
    throw new GatewayError('state', `etcd does not answer: ${failures.join('; ')}`);
  }

  /**
   * Tells each message of a stream until it ends, which it says by `onEnd` once.
   * @param ping a call that the member must answer now and then, or the stream is over
   * @returns ends it
   */
  stream(
    path: string,
    body: object,
    ping: { readonly path: string; readonly body: object },
    onMessage: (message: unknown) => void,
    onEnd: () => void,
  ): () => void {
    const { endpoints } = this.#options;
    const index = this.#first;
    let isOver = false;
    const stop = (): void => {
      isOver = true;
      clearInterval(pings);
      request.destroy();
    };
    const end = (): void => {
      if (isOver) return;
      stop();
      if (this.#first === index) this.#first = (index + 1) % endpoints.length;
      onEnd();
    };
    const request = this.#open(endpoints[index]!, path, body);
    const pings = setInterval(
      () => void this.#ask(endpoints[index]!, ping.path, ping.body).catch(end),
      PING_MS,
    );
    request.once('error', end);
    request.once('response', (response: IncomingMessage) => {
      if (response.statusCode !== 200) return end();
      let rest = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        const lines = (rest + chunk).split('\n');
        rest = lines.pop() ?? '';
        if (rest.length > MAX_LINE) return end();
        for (const line of lines) {
          if (isOver || line === '') continue;
          try {
            onMessage(JSON.parse(line));
          } catch {
            return end();
          }
        }
      });
      response.once('error', end);
      response.once('close', end);
    });
    return stop;
  }

  close(): void {
    this.#agents.http.destroy();
    this.#agents.https.destroy();
  }

  #open(endpoint: string, path: string, body: object) {
    const url = new URL(`/v3${path}`, endpoint);
    const text = JSON.stringify(body);
    const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) };
    const request =
      url.protocol === 'https:'
        ? httpsRequest(url, { method: 'POST', agent: this.#agents.https, headers })
        : httpRequest(url, { method: 'POST', agent: this.#agents.http, headers });
    request.end(text);
    return request;
  }

  #ask(endpoint: string, path: string, body: object): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const request = this.#open(endpoint, path, body);
      const fail = (why: string): void => {
        clearTimeout(timer);
        request.destroy();
        reject(new Error(why));
      };
      const timer = setTimeout(() => fail(`no answer within ${CALL_TIMEOUT_MS} ms`), CALL_TIMEOUT_MS);
      request.once('error', (error) => fail(error.message));
      request.once('response', (response: IncomingMessage) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on('data', (chunk: Buffer) => {
          size += chunk.length;
          if (size > MAX_ANSWER) fail('the answer is too large');
          else chunks.push(chunk);
        });
        response.once('error', (error) => fail(error.message));
        response.once('end', () => {
          clearTimeout(timer);
          const text = Buffer.concat(chunks).toString('utf8');
          if (response.statusCode !== 200) return fail(`HTTP ${response.statusCode}: ${text.slice(0, 200)}`);
          try {
            resolve(JSON.parse(text));
          } catch {
            fail('the answer is not JSON');
          }
        });
      });
    });
  }
}
