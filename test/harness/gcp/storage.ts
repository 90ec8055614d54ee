import { createHash } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  linkSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { ApiError, invalid, notFound } from './api-error.ts';
import { checkStorageCall } from './storage-schema.ts';

/** Chunks of an upload, but for the last, and what is kept of a broken one. */
const QUANTUM = 256 * 1024;

interface Bucket {
  readonly name: string;
  readonly project: string;
  readonly body: Readonly<Record<string, unknown>>;
  readonly objects: Map<string, StoredObject>;
}
interface StoredObject {
  readonly name: string;
  readonly file: string;
  readonly size: number;
  readonly md5: string;
  readonly metadata: Readonly<Record<string, string>>;
}
interface Session {
  readonly bucket: Bucket;
  readonly name: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly file: string;
  received: number;
  done: object | undefined;
}
export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: object | undefined;
}

/** Cloud Storage: buckets of a project and of others, objects by resumable upload. */
export class EmulatedStorage {
  readonly buckets: Map<string, Bucket> = new Map();
  /** Bytes that came in by uploads. */
  uploaded = 0;
  readonly #sessions = new Map<string, Session>();
  #count = 0;

  private readonly folder: string;
  private readonly project: string;

  constructor(folder: string, project: string) {
    this.folder = folder;
    this.project = project;
  }

  /** Sessions that somebody ended: an upload to one of them starts again. */
  forgetSessions(): void {
    this.#sessions.clear();
  }

  addBucket(
    name: string,
    project: string = this.project,
    body: Readonly<Record<string, unknown>> = {},
  ): Bucket {
    const bucket = { name, project, body, objects: new Map<string, StoredObject>() };
    this.buckets.set(name, bucket);
    return bucket;
  }

  /** A file with the content of an object, which stays when the object is deleted. */
  copyOf(bucket: string, name: string): string {
    const object = this.buckets.get(bucket)?.objects.get(name);
    if (object === undefined) throw notFound(`${bucket}/${name}`);
    const copy = join(this.folder, `copy-${++this.#count}`);
    linkSync(object.file, copy);
    return copy;
  }

  answer(method: string, url: URL, body: unknown, origin: string): Answer {
    const { name, path } = this.#check(method, url, body);
    const query = url.searchParams;
    switch (name) {
      case 'Buckets$Get':
        return { status: 200, body: show(this.#bucket(path['bucket'])) };
      case 'Buckets$Insert': {
        const given = body as Record<string, unknown>;
        if (query.get('project') !== this.project) throw denied('the project');
        if (this.buckets.has(String(given['name'])))
          throw new ApiError(409, 'conflict', 'Your previous request to create the named bucket succeeded');
        return { status: 200, body: show(this.addBucket(String(given['name']), this.project, given)) };
      }
      case 'Buckets$Delete': {
        const bucket = this.#bucket(path['bucket']);
        if (bucket.objects.size > 0) throw new ApiError(409, 'conflict', 'The bucket is not empty');
        this.buckets.delete(bucket.name);
        return { status: 204 };
      }
      case 'Objects$List': {
        const { objects } = this.#bucket(path['bucket']);
        const prefix = query.get('prefix') ?? '';
        const found = [...objects.values()].filter((one) => one.name.startsWith(prefix));
        return { status: 200, body: { kind: 'storage#objects', items: found.map(showObject) } };
      }
      case 'Objects$Get':
        return { status: 200, body: showObject(this.#object(path)) };
      case 'Objects$Delete': {
        const { file, name: key } = this.#object(path);
        this.#bucket(path['bucket']).objects.delete(key);
        rmSync(file);
        return { status: 204 };
      }
      case 'Objects$Insert': {
        if (query.get('uploadType') !== 'resumable') throw invalid('Only resumable uploads are emulated');
        const given = (body ?? {}) as { name?: string; metadata?: Record<string, string> };
        const id = `upload-${++this.#count}`;
        const file = join(this.folder, id);
        writeFileSync(file, '');
        this.#sessions.set(id, {
          bucket: this.#bucket(path['bucket']),
          name: query.get('name') ?? given.name ?? '',
          metadata: given.metadata ?? {},
          ...{ file, received: 0, done: undefined },
        });
        url.searchParams.set('upload_id', id);
        return { status: 200, headers: { location: `${origin}${url.pathname}?${url.searchParams}` } };
      }
      default:
        throw invalid(`The emulator has no ${name}`);
    }
  }

  /** A chunk of a resumable upload; of a broken one whole quanta are kept. */
  async upload(url: URL, request: IncomingMessage): Promise<Answer> {
    const session = this.#sessions.get(url.searchParams.get('upload_id') ?? '');
    if (session === undefined) {
      request.resume();
      throw new ApiError(410, 'gone', 'The upload session does not exist any more');
    }
    const range = String(request.headers['content-range'] ?? '');
    const match = /^bytes (?:(\d+)-(\d+)|\*)\/(\d+|\*)$/.exec(range);
    if (match === null) throw invalid(`Content-Range ${range} is not valid`);
    const [, first, last, total] = match;
    if (session.done !== undefined) return { status: 200, body: session.done };
    if (first !== undefined) {
      if (Number(first) !== session.received)
        throw invalid(`Expected byte ${session.received}, not ${first}`);
      const expected = Number(last) - Number(first) + 1;
      if (total === '*' && expected % QUANTUM !== 0) throw invalid('Chunks are multiples of 256 KiB');
      let got = 0;
      try {
        for await (const chunk of request as AsyncIterable<Buffer>) {
          got += chunk.length;
          appendFileSync(session.file, chunk);
        }
      } catch {
        got = Math.floor(got / QUANTUM) * QUANTUM;
        truncate(session.file, session.received + got);
        session.received += got;
        throw new ApiError(499, 'closed', 'The client closed the connection');
      }
      this.uploaded += got;
      if (got !== expected) throw invalid(`${got} bytes instead of ${expected}`);
      session.received += got;
    }
    if (total === '*' || session.received < Number(total)) {
      const headers = session.received === 0 ? {} : { range: `bytes=0-${session.received - 1}` };
      return { status: 308, headers };
    }
    const { bucket, name, metadata, file, received } = session;
    const md5 = createHash('md5').update(readFileSync(file)).digest('base64');
    const object = { name, file, size: received, md5, metadata };
    bucket.objects.set(name, object);
    session.done = showObject(object);
    return { status: 200, body: session.done };
  }

  #check(method: string, url: URL, body: unknown): ReturnType<typeof checkStorageCall> {
    try {
      return checkStorageCall(method, url, body);
    } catch (error) {
      throw new ApiError(400, 'schema', (error as Error).message);
    }
  }

  #bucket(name: string | undefined): Bucket {
    const bucket = this.buckets.get(name ?? '');
    if (bucket === undefined) throw notFound(`b/${name}`);
    if (bucket.project !== this.project) throw denied(`storage.buckets of ${name}`);
    return bucket;
  }

  #object(path: Readonly<Record<string, string>>): StoredObject {
    const object = this.#bucket(path['bucket']).objects.get(path['object'] ?? '');
    if (object === undefined) throw notFound(`${path['bucket']}/${path['object']}`);
    return object;
  }
}

function denied(what: string): ApiError {
  return new ApiError(403, 'forbidden', `The account does not have access to ${what}`);
}

function show({ name, body }: Bucket): object {
  return { kind: 'storage#bucket', location: 'US', ...body, name };
}

function showObject({ name, size, md5, metadata }: StoredObject): object {
  return { kind: 'storage#object', name, size: String(size), md5Hash: md5, metadata };
}

function truncate(file: string, size: number): void {
  if (statSync(file).size <= size) return;
  const kept = Buffer.alloc(size);
  const handle = openSync(file, 'r');
  readSync(handle, kept, 0, size, 0);
  closeSync(handle);
  writeFileSync(file, kept);
}
