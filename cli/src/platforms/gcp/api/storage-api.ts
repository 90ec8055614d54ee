import type { Labelled } from '../resources.ts';
import { GcpError, isNotFound } from './gcp-error.ts';
import type { GcpSession } from './gcp-session.ts';

const MAX_PAGES = 1000;

export interface GcpBucket extends Labelled {
  readonly location?: string;
}
export interface GcpObject {
  readonly name: string;
  readonly size?: string;
  readonly md5Hash?: string;
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Cloud Storage, as far as deploys need it. */
export class StorageApi {
  readonly session: GcpSession;

  constructor(session: GcpSession) {
    this.session = session;
  }

  async findBucket(name: string): Promise<GcpBucket | undefined> {
    return (await this.#find(`b/${encodeURIComponent(name)}`)) as GcpBucket | undefined;
  }

  async makeBucket(project: string, bucket: object): Promise<void> {
    await this.session.request({ method: 'POST', url: this.#url('b'), query: { project }, body: bucket });
  }

  async findObject(bucket: string, name: string): Promise<GcpObject | undefined> {
    return (await this.#find(objectPath(bucket, name))) as GcpObject | undefined;
  }

  async listObjects(bucket: string, prefix: string): Promise<GcpObject[]> {
    const found: GcpObject[] = [];
    let pageToken: string | undefined;
    for (let page = 0; page < MAX_PAGES; page += 1) {
      const url = this.#url(`b/${encodeURIComponent(bucket)}/o`);
      const answer = await this.session.request({ method: 'GET', url, query: { prefix, pageToken } });
      const { items, nextPageToken } = answer.json as { items?: GcpObject[]; nextPageToken?: string };
      found.push(...(items ?? []));
      if (!nextPageToken) return found;
      pageToken = nextPageToken;
    }
    throw new GcpError(502, 'tooLarge', 'The list has no end');
  }

  /** What is not there any more is deleted. */
  async removeObject(bucket: string, name: string): Promise<void> {
    await this.#remove(objectPath(bucket, name));
  }

  async removeBucket(name: string): Promise<void> {
    await this.#remove(`b/${encodeURIComponent(name)}`);
  }

  async #find(path: string): Promise<unknown> {
    try {
      return (await this.session.request({ method: 'GET', url: this.#url(path) })).json;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  async #remove(path: string): Promise<void> {
    try {
      await this.session.request({ method: 'DELETE', url: this.#url(path) });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  #url(path: string): string {
    return `${this.session.storageUrl}storage/v1/${path}`;
  }
}

function objectPath(bucket: string, name: string): string {
  return `b/${encodeURIComponent(bucket)}/o/${encodeURIComponent(name)}`;
}
