import { Agent } from 'node:http';
import { connectVsock } from '@dstack-cloud/attestation/obtain';
import { httpTransport, type PrpcTransport } from '@dstack-cloud/prpc';
import { VSOCK_URL } from './host-api.ts';

/** Calls of `host_api_url`; undefined without a URL, or with one that this guest has no transport for. */
export function hostTransport(url: string | undefined): PrpcTransport | undefined {
  if (url?.startsWith('unix:'))
    return httpTransport({ baseUrl: 'http://localhost/api', socketPath: url.slice(5) });
  const vsock = url === undefined ? null : VSOCK_URL.exec(url);
  if (vsock !== null) {
    const agent = new VsockAgent(Number(vsock[1]), Number(vsock[2]));
    return httpTransport({ baseUrl: `http://localhost${vsock[3] ?? ''}`, agent });
  }
  if (url?.startsWith('http://') && URL.canParse(url)) return httpTransport({ baseUrl: url });
  return undefined;
}

/** One connection a call. */
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
