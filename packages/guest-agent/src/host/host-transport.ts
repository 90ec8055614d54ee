import { Agent } from 'node:http';
import { connectVsock } from '@dstack-cloud/attestation/attester';
import { type HttpTransportOptions, httpTransport, type PrpcTransport } from '@dstack-cloud/prpc';

/** `vsock://CID:PORT/PATH`. */
const VSOCK_URL = /^vsock:\/\/(\d{1,10}):(\d{1,10})(\/[A-Za-z0-9/._-]*?)?\/*$/;

/**
 * Calls of `host_api_url`: `vsock://CID:PORT/api`, `http://HOST:PORT/api`, or `unix:PATH` for a machine whose host listens
 * on a socket; undefined without a URL, or with one of another form. Each call has a connection of its own.
 */
export function hostTransport(
  url: string | undefined,
  { timeoutMs }: Pick<HttpTransportOptions, 'timeoutMs'> = {},
): PrpcTransport | undefined {
  const limit = timeoutMs === undefined ? {} : { timeoutMs };
  const agent = new Agent({ keepAlive: false });
  if (url?.startsWith('unix:'))
    return httpTransport({ baseUrl: 'http://localhost/api', socketPath: url.slice(5), agent, ...limit });
  const vsock = url === undefined ? null : VSOCK_URL.exec(url);
  if (vsock !== null) {
    const through = new VsockAgent(Number(vsock[1]), Number(vsock[2]));
    return httpTransport({ baseUrl: `http://localhost${vsock[3] ?? ''}`, agent: through, ...limit });
  }
  if (url?.startsWith('http://') && URL.canParse(url))
    return httpTransport({ baseUrl: url, agent, ...limit });
  return undefined;
}

class VsockAgent extends Agent {
  readonly #cid: number;
  readonly #port: number;
  constructor(cid: number, port: number) {
    super({ keepAlive: false });
    this.#cid = cid;
    this.#port = port;
  }

  override createConnection(...[, done]: Parameters<Agent['createConnection']>): undefined {
    // An error of the callback is the request's; the type of Node asks for a stream even then.
    const failed = done as unknown as (error: Error) => void;
    connectVsock(this.#cid, this.#port).then((stream) => done?.(null, stream), failed);
  }
}
