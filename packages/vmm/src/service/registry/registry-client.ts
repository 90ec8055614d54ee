import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { RegistryAddress } from './registry-address.ts';
import { bodyOf, jsonOf, readJson, readSmall } from './registry-body.ts';
import { BrokenOff, badRegistryImage, registryFailed } from './registry-error.ts';
import { getFollowing, type Reach, targetOf } from './registry-request.ts';
import { answerChallenge } from './registry-token.ts';

const MAX_TAGS = 10_000;
const MAX_TAG_PAGES = 20;
const MAX_LAYERS = 64;
const MAX_MANIFESTS = 256;
const ANSWER_MS = 30_000;
const SPAN_MS = 30_000;
const PAUSE_MS = 2_000;
/** A layer that breaks off so often, with fewer than so many bytes in between, is given up. */
const MAX_BREAKS = 3;
const LEAST_PROGRESS = 64 * 1024;

const MANIFESTS = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
].join(', ');

const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/);
const descriptor = z.object({
  mediaType: z.string().max(256),
  digest,
  size: z.int().min(0),
  platform: z.object({ os: z.string(), architecture: z.string() }).nullish(),
});
const manifestSchema = z.object({ layers: z.array(descriptor).min(1).max(MAX_LAYERS) });
const indexSchema = z.object({ manifests: z.array(descriptor).min(1).max(MAX_MANIFESTS) });
const tagsSchema = z.object({ tags: z.array(z.string().max(256)).max(MAX_TAGS).nullish() });

/** A layer of an image: a tar archive, compressed or not. */
export interface RegistryLayer {
  readonly digest: string;
  readonly size: number;
  readonly mediaType: string;
}

/** The value of `Authorization` with a password, or undefined without one; asked each time that a registry wants one. */
export type Password = () => Promise<string | undefined>;

/** Reads a repository of a registry (OCI distribution-spec 1.1). Everything that it says is bounded. */
export class RegistryClient {
  readonly #address: RegistryAddress;
  readonly #reach: Reach;
  readonly #password: Password;
  #authorization: string | undefined;

  constructor(
    address: RegistryAddress,
    reach: Partial<Omit<Reach, 'origin'>> = {},
    password: Password = async () => undefined,
  ) {
    this.#address = address;
    this.#reach = {
      ...{ answerMs: ANSWER_MS, spanMs: SPAN_MS, pauseMs: PAUSE_MS },
      ...reach,
      origin: address.origin,
    };
    this.#password = password;
  }

  /** Every tag. @throws VmmError `registry_failed` */
  async tags(signal: AbortSignal): Promise<string[]> {
    const tags = new Set<string>();
    let url: URL | undefined = this.#url('tags/list');
    for (let page = 0; url !== undefined; page++) {
      if (page >= MAX_TAG_PAGES || tags.size > MAX_TAGS)
        throw registryFailed(`it has more than ${MAX_TAGS} tags`);
      const response = await this.#get(url, 'application/json', signal);
      const next = nextPage(response.headers['link']);
      const parsed = tagsSchema.safeParse(await readJson(response, signal, this.#reach));
      if (!parsed.success) throw registryFailed('it gives no list of tags');
      for (const tag of parsed.data.tags ?? []) tags.add(tag);
      url = next === undefined ? undefined : targetOf(next, url, this.#reach);
      if (url !== undefined && url.origin !== this.#address.origin)
        throw registryFailed(`its list of tags goes on at another host, ${url.host}`);
    }
    return [...tags];
  }

  /** The layers of the image with this tag, lowest first. @throws VmmError `registry_failed`, `bad_image` */
  async layers(tag: string, signal: AbortSignal): Promise<readonly RegistryLayer[]> {
    const first = await this.#manifest(tag, undefined, signal);
    const index = indexSchema.safeParse(first);
    const found = index.success ? await this.#imageOf(index.data.manifests, signal) : first;
    const parsed = manifestSchema.safeParse(found);
    if (!parsed.success) throw badRegistryImage('its manifest is none of an image');
    return parsed.data.layers;
  }

  /**
   * The bytes of a layer as they arrive, over as many connections as break off. They are what the manifest says only once all
   * have been read.
   *
   * @throws VmmError `registry_failed`, `bad_image`
   */
  async *blob({ digest: expected, size }: RegistryLayer, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const hash = createHash('sha256');
    let total = 0;
    for (let breaks = 0, before = 0; ; before = total) {
      try {
        for await (const chunk of this.#blobFrom(expected, total, size, signal)) {
          hash.update(chunk);
          total += chunk.length;
          yield chunk;
        }
        break;
      } catch (error) {
        breaks = total - before >= LEAST_PROGRESS ? 1 : breaks + 1;
        if (total === 0 || breaks > MAX_BREAKS || !(error instanceof BrokenOff)) throw error;
        await sleep(this.#reach.pauseMs, undefined, { signal });
      }
    }
    const found = `sha256:${hash.digest('hex')}`;
    if (total !== size || found !== expected)
      throw badRegistryImage('blob digest mismatch', {
        expected: `${expected} of ${size} bytes`,
        found: `${found} of ${total} bytes`,
      });
  }

  /** The bytes of a layer from one on, also from a server that sends all of them (RFC 9110, section 14.2). */
  async *#blobFrom(
    name: string,
    from: number,
    size: number,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const response = await this.#get(this.#url(`blobs/${name}`), 'application/octet-stream', signal, from);
    const isPart = response.statusCode === 206;
    const range = String(response.headers['content-range'] ?? '');
    if (isPart && !range.startsWith(`bytes ${from}-`)) {
      response.destroy();
      throw registryFailed(
        `it sends other bytes (${range.slice(0, 64)}) than were asked for (from ${from} on)`,
      );
    }
    let skipped = isPart ? from : 0;
    const max = isPart ? size - from : size;
    for await (const chunk of bodyOf(response, signal, { max, spanMs: this.#reach.spanMs })) {
      const known = Math.min(from - skipped, chunk.length);
      skipped += known;
      if (known < chunk.length) yield chunk.subarray(known);
    }
  }

  /** The first manifest that is an image of this kind of machine, and no attestation of one. */
  async #imageOf(manifests: readonly z.infer<typeof descriptor>[], signal: AbortSignal): Promise<object> {
    const found = manifests.find(
      ({ platform }) => platform == null || (platform.os === 'linux' && platform.architecture === 'amd64'),
    );
    if (found === undefined) throw badRegistryImage('its index has no image for linux/amd64');
    return await this.#manifest(found.digest, found.digest, signal);
  }

  async #manifest(reference: string, expected: string | undefined, signal: AbortSignal): Promise<object> {
    const response = await this.#get(this.#url(`manifests/${reference}`), MANIFESTS, signal);
    const announced = response.headers['docker-content-digest'];
    const bytes = await readSmall(response, signal, this.#reach);
    const found = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    for (const wanted of [
      expected,
      typeof announced === 'string' && digest.safeParse(announced).success ? announced : undefined,
    ])
      if (wanted !== undefined && wanted !== found)
        throw badRegistryImage('manifest digest mismatch', { expected: wanted, found });
    return jsonOf(bytes);
  }

  async #get(url: URL, accept: string, signal: AbortSignal, from = 0): Promise<IncomingMessage> {
    const ask = () =>
      getFollowing(url, { accept, signal, authorization: this.#authorization, from }, this.#reach);
    let response = await ask();
    if (response.statusCode === 401) {
      const challenge = response.headers['www-authenticate'];
      response.destroy();
      const { repository } = this.#address;
      const credentials = { repository, password: await this.#password() };
      this.#authorization = await answerChallenge(challenge, credentials, this.#reach, signal);
      response = await ask();
    }
    if (response.statusCode === 200 || (from > 0 && response.statusCode === 206)) return response;
    response.destroy();
    throw registryFailed(`HTTP ${response.statusCode} for ${url.pathname.slice(0, 300)}`);
  }

  #url(path: string): URL {
    return new URL(`/v2/${this.#address.repository}/${path}`, this.#address.origin);
  }
}

/** Address of the next page (RFC 8288). */
function nextPage(link: string | string[] | undefined): string | undefined {
  return /^\s*<([^>]{1,2048})>\s*;\s*rel="?next"?/.exec(String(link ?? ''))?.[1];
}
