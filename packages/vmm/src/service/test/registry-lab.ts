import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type ArchiveEntry, tarOf } from '@dstack-cloud/test/tar-of';

const GZIP = 'application/vnd.oci.image.layer.v1.tar+gzip';
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';
const TOKEN = 'token-for-anybody';

/** What a registry answers in place of what it should. */
export type Fault = (request: Pick<IncomingMessage, 'url' | 'headers'>, response: ServerResponse) => boolean;

/** The files of an image's folder as a tar archive. */
export function imageTar(folder: string, more: readonly ArchiveEntry[] = []): Uint8Array {
  const files = readdirSync(folder).map((name) => ({ name, data: readFileSync(join(folder, name)) }));
  return tarOf([...files, ...more]);
}

/** A registry of this test: OCI distribution-spec 1.1, for reading, with faults. */
export class RegistryLab {
  readonly blobs: Map<string, Uint8Array> = new Map();
  readonly manifests: Map<string, { readonly type: string; readonly bytes: Uint8Array }> = new Map();
  readonly tags: string[] = [];
  /** Requests as `METHOD PATH`. */
  readonly requests: string[] = [];
  /** Values of `Authorization` that were seen. */
  readonly credentials: Set<string | undefined> = new Set();
  readonly repository: string = 'dstack/images';
  needsToken: boolean = false;
  /** Of the registry itself, or of where it gives tokens when it wants those. */
  password: string | undefined = undefined;
  /** Whether a part of a layer can be asked for. */
  hasRanges: boolean = true;
  /** Asked first. */
  fault: Fault = () => false;
  readonly #server: Server = createServer((request, response) => void this.#answer(request, response));
  readonly #sockets = new Set<Socket>();

  async start(): Promise<void> {
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      socket.on('error', () => undefined);
    });
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** What `image.registry` is set to. */
  get address(): string {
    return `${this.origin}/${this.repository}`;
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#sockets.size;
  }

  add(bytes: Uint8Array): string {
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    this.blobs.set(digest, bytes);
    return digest;
  }

  /** Publishes an image of these layers, each a tar archive that is packed with gzip unless it has a type. */
  publish(
    tag: string,
    layers: readonly (Uint8Array | { readonly bytes: Uint8Array; readonly type: string })[],
    change: (layer: object) => object = (layer) => layer,
  ): string {
    const described = layers.map((layer) => {
      const [bytes, mediaType] =
        layer instanceof Uint8Array ? [new Uint8Array(gzipSync(layer)), GZIP] : [layer.bytes, layer.type];
      return change({ mediaType, digest: this.add(bytes), size: bytes.length });
    });
    const config = new TextEncoder().encode('{}');
    return this.put(tag, MANIFEST, {
      ...{ schemaVersion: 2, mediaType: MANIFEST },
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: this.add(config), size: 2 },
      layers: described,
    });
  }

  /** Publishes an index, in which an attestation comes first. */
  publishIndex(tag: string, image: string): void {
    const size = this.manifests.get(image)!.bytes.length;
    const attestation = this.put('attestation', MANIFEST, { schemaVersion: 2, layers: [] });
    const one = (digest: string, os: string, architecture: string) => ({
      ...{ mediaType: MANIFEST, digest, size, platform: { os, architecture } },
    });
    this.put(tag, INDEX, {
      schemaVersion: 2,
      manifests: [one(attestation, 'unknown', 'unknown'), one(image, 'linux', 'amd64')],
    });
  }

  put(tag: string, type: string, value: object): string {
    const bytes = new TextEncoder().encode(JSON.stringify(value));
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    for (const name of [tag, digest]) this.manifests.set(name, { type, bytes });
    if (!this.tags.includes(tag) && tag !== 'attestation') this.tags.push(tag);
    return digest;
  }

  #answer(request: IncomingMessage, response: ServerResponse): ServerResponse | undefined {
    const path = request.url ?? '';
    this.requests.push(`${request.method} ${path}`);
    this.credentials.add(request.headers.authorization);
    if (this.fault(request, response)) return undefined;
    const send = (status: number, bytes: Uint8Array | string, headers: Record<string, string> = {}) =>
      response.writeHead(status, { 'Content-Length': Buffer.byteLength(bytes), ...headers }).end(bytes);
    const url = new URL(path, this.origin);
    const isKnown = this.password === undefined || request.headers.authorization === this.password;
    if (!isKnown && (url.pathname === '/token' || !this.needsToken))
      return send(401, '', { 'WWW-Authenticate': 'Basic realm="lab"' });
    if (url.pathname === '/token') {
      const isRight = url.searchParams.get('scope') === `repository:${this.repository}:pull`;
      return send(isRight ? 200 : 400, JSON.stringify({ token: TOKEN }));
    }
    if (this.needsToken && request.headers.authorization !== `Bearer ${TOKEN}`)
      return send(401, '', {
        'WWW-Authenticate': `Bearer realm="${this.origin}/token",service="lab",scope="repository:*:push"`,
      });
    const [, kind, name = ''] =
      /^\/v2\/dstack\/images\/(tags|manifests|blobs)\/(.+)$/.exec(url.pathname) ?? [];
    const manifest = kind === 'manifests' ? this.manifests.get(name) : undefined;
    const blob = kind === 'blobs' ? this.blobs.get(name) : undefined;
    if (kind === 'tags') {
      // Two on a page.
      const from = Number(url.searchParams.get('from') ?? 0);
      const link = `</v2/dstack/images/tags/list?from=${from + 2}>; rel="next"`;
      const headers: Record<string, string> = from + 2 < this.tags.length ? { Link: link } : {};
      return send(200, JSON.stringify({ name, tags: this.tags.slice(from, from + 2) }), headers);
    }
    if (manifest !== undefined) return send(200, manifest.bytes, { 'Content-Type': manifest.type });
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    if (blob !== undefined && from > 0 && this.hasRanges)
      return send(206, blob.subarray(from), {
        'Content-Range': `bytes ${from}-${blob.length - 1}/${blob.length}`,
      });
    if (blob !== undefined) return send(200, blob);
    return send(404, '{"errors":[]}');
  }
}
