import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A web server on loopback that answers as the test says. */
export type ImageServer = {
  /** With `{OS_IMAGE_HASH}`. */
  readonly url: string;
  readonly requests: { readonly path: string; readonly range: string | undefined }[];
  serve: RequestListener;
  close(): void;
};

export async function startImageServer(): Promise<ImageServer> {
  const server = createServer((request, response) => {
    running.requests.push({ path: request.url ?? '', range: request.headers.range });
    running.serve(request, response);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const running: ImageServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mr_{OS_IMAGE_HASH}.tar.gz`,
    requests: [],
    serve: (_, response) => response.writeHead(404).end(),
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
  return running;
}

/** The whole body at once. */
export function whole(body: Uint8Array): RequestListener {
  return (_, response) => response.end(body);
}

/** Breaks off after `piece` bytes of each answer; takes the transfer up where it is asked to. */
export function breaking(body: Uint8Array, piece: number): RequestListener {
  return ({ headers }, response) => {
    const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
    const rest = body.subarray(from);
    response.writeHead(from > 0 ? 206 : 200, {
      'Content-Length': rest.length,
      ...(from > 0 && { 'Content-Range': `bytes ${from}-${body.length - 1}/${body.length}` }),
    });
    if (rest.length <= piece) response.end(rest);
    else response.write(rest.subarray(0, piece), () => setTimeout(() => response.destroy(), 20));
  };
}
