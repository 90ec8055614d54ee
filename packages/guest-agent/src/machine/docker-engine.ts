import type { IncomingMessage } from 'node:http';
import { z } from 'zod';
import type { ContainerInfo, LogChunk, LogQuery } from './containers.ts';
import { dockerBody, dockerRequest } from './docker-request.ts';

const TIMEOUT_MS = 10_000;
/** Largest frame of a log stream. */
const MAX_FRAME = 1024 * 1024;
const CHANNELS = ['stdin', 'stdout', 'stderr'] as const;

const listSchema = z.array(
  z.looseObject({
    Id: z.string(),
    Names: z.array(z.string()).default([]),
    Image: z.string().default(''),
    ImageID: z.string().default(''),
    Created: z.number().default(0),
    State: z.string().default(''),
    Status: z.string().default(''),
  }),
);

/** The two calls of Docker's API that the agent makes, over its Unix socket. */
export class DockerEngine {
  readonly #socketPath: string;
  readonly #project: string | undefined;

  /** @param project other containers than those of this compose project do not exist */
  constructor(socketPath: string, project?: string) {
    this.#socketPath = socketPath;
    this.#project = project;
  }

  /** All containers, also stopped ones. @throws Error when the engine cannot be reached or refuses */
  async list(): Promise<readonly ContainerInfo[]> {
    const label = `com.docker.compose.project=${this.#project}`;
    const filters = encodeURIComponent(JSON.stringify({ label: [label] }));
    const path = `/containers/json?all=true${this.#project === undefined ? '' : `&filters=${filters}`}`;
    const response = await dockerRequest(this.#socketPath, { path, signal: AbortSignal.timeout(TIMEOUT_MS) });
    const list = listSchema.parse(JSON.parse((await dockerBody(response)).toString('utf8')));
    return list.map((one) => ({
      id: one.Id,
      names: one.Names,
      image: one.Image,
      imageId: one.ImageID,
      created: Math.floor(one.Created),
      state: one.State,
      status: one.Status,
    }));
  }

  /** Output of one container; `name` must have been checked. @throws Error with the engine's text */
  async *logs(name: string, query: LogQuery, signal: AbortSignal): AsyncGenerator<LogChunk> {
    if (this.#project !== undefined && !(await this.#has(name)))
      throw new Error(`No such container: ${name}`);
    const parameters = new URLSearchParams({
      stdout: 'true',
      stderr: 'true',
      follow: String(query.follow),
      timestamps: String(query.timestamps),
      since: String(query.since),
      until: String(query.until),
      tail: query.tail,
    });
    const path = `/containers/${encodeURIComponent(name)}/logs?${parameters}`;
    const response = await dockerRequest(this.#socketPath, { path, signal });
    yield* frames(response);
  }

  async #has(name: string): Promise<boolean> {
    return (await this.list()).some(({ id, names }) => id === name || names.includes(`/${name}`));
  }
}

/** Docker's multiplexed stream: channel u8, three zero bytes, length u32 big endian, then the bytes. */
async function* frames(response: IncomingMessage): AsyncGenerator<LogChunk> {
  let pending = Buffer.alloc(0);
  for await (const chunk of response as AsyncIterable<Buffer>) {
    pending = Buffer.concat([pending, chunk]);
    while (pending.length >= 8) {
      const channel = CHANNELS[pending[0] ?? 3];
      const length = pending.readUInt32BE(4);
      // A container with a terminal is not multiplexed: what is no frame is shown as it is.
      if (channel === undefined || pending[1] !== 0 || length > MAX_FRAME) {
        yield { channel: 'console', bytes: pending };
        pending = Buffer.alloc(0);
        break;
      }
      if (pending.length < 8 + length) break;
      yield { channel, bytes: pending.subarray(8, 8 + length) };
      pending = pending.subarray(8 + length);
    }
  }
}
