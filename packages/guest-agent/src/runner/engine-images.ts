import { execFile, spawn } from 'node:child_process';
import { pipeline } from 'node:stream/promises';
import type { EngineName } from '@dstack-cloud/app';
import { z } from 'zod';
import { GuestError } from '../errors.ts';
import { lastWords } from '../last-words.ts';
import { DockerRefusal, dockerBody, dockerRequest } from '../machine/docker-request.ts';

/** An engine that takes longer for one archive is stuck. */
const LOAD_TIMEOUT_MS = 30 * 60_000;
const INSPECT_TIMEOUT_MS = 60_000;
const MAX_SAID = 2000;

/** The images of a container engine. */
export interface EngineImages {
  /** The id (`sha256:…`) of the image with this name or id; undefined when there is none. @throws GuestError */
  idOf(name: string): Promise<string | undefined>;
  /** Loads an archive; `name` is for errors. @throws GuestError `start-failed` */
  load(name: string, content: AsyncIterable<Uint8Array>): Promise<void>;
}

interface CommandOptions {
  readonly engine: EngineName;
  /** Environment of the engine's client. */
  readonly env: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
}

/** Images by the engine's own client. */
export function imagesByCommand({ engine, env, signal }: CommandOptions): EngineImages {
  return {
    idOf: (name) =>
      new Promise((resolve, reject) => {
        const args = ['image', 'inspect', '--format', '{{.Id}}', name];
        const settings = { env: { ...env }, timeout: INSPECT_TIMEOUT_MS, ...(signal ? { signal } : {}) };
        execFile(engine, args, settings, (error, stdout) => {
          if (error === null) return resolve(`sha256:${stdout.trim().replace(/^sha256:/, '')}`);
          // A status is the engine's answer; anything else is none.
          if (typeof error.code === 'number') return resolve(undefined);
          reject(new GuestError('start-failed', `${engine} cannot be asked for images`, { cause: error }));
        });
      }),
    load: async (name, content) => {
      const child = spawn(engine, ['load'], {
        env: { ...env },
        stdio: ['pipe', 'ignore', 'pipe'],
        signal: within(LOAD_TIMEOUT_MS, signal),
        killSignal: 'SIGKILL',
      });
      let said = '';
      child.stderr.on('data', (chunk: Buffer) => {
        said = (said + chunk.toString('utf8')).slice(-MAX_SAID);
      });
      const ended = new Promise<number | null>((resolve, reject) => {
        child.once('error', reject);
        child.once('close', resolve);
      });
      // An engine that refuses stops reading; its own words say more than the broken pipe.
      const fed = pipeline(content, child.stdin).catch((cause: unknown) => cause);
      const [code, cause] = await Promise.all([ended, fed]);
      if (code !== 0) throw notLoaded(engine, name, lastWords(said) || `status ${code}`, cause);
    },
  };
}

const inspectSchema = z.looseObject({ Id: z.string() });
const progressSchema = z.looseObject({ error: z.string().optional() });

/** Images by Docker's API, at its socket: a start of the client takes seconds where the processor is emulated. */
export function imagesByApi(socketPath: string, signal?: AbortSignal): EngineImages {
  return {
    idOf: async (name) => {
      // Slashes of a name are part of the path.
      const path = `/images/${name.split('/').map(encodeURIComponent).join('/')}/json`;
      try {
        const answer = await dockerRequest(socketPath, { path, signal: within(INSPECT_TIMEOUT_MS, signal) });
        return inspectSchema.parse(JSON.parse((await dockerBody(answer)).toString('utf8'))).Id;
      } catch (cause) {
        if (cause instanceof DockerRefusal && cause.status === 404) return undefined;
        throw new GuestError('start-failed', 'docker cannot be asked for images', { cause });
      }
    },
    load: async (name, content) => {
      let error: string | undefined;
      try {
        const call = { path: '/images/load?quiet=true', content, signal: within(LOAD_TIMEOUT_MS, signal) };
        const progress = (await dockerBody(await dockerRequest(socketPath, call))).toString('utf8');
        // A failure comes with status 200 too, as one of the lines.
        for (const line of progress.split('\n'))
          if (line.trim() !== '') error ??= progressSchema.parse(JSON.parse(line)).error;
      } catch (cause) {
        const words = cause instanceof DockerRefusal ? cause.message : 'no answer';
        throw notLoaded('docker', name, lastWords(words), cause);
      }
      if (error !== undefined) throw notLoaded('docker', name, lastWords(error) || 'without a reason');
    },
  };
}

function within(ms: number, signal: AbortSignal | undefined): AbortSignal {
  const limit = AbortSignal.timeout(ms);
  return signal === undefined ? limit : AbortSignal.any([signal, limit]);
}

function notLoaded(engine: EngineName, name: string, why: string, cause?: unknown): GuestError {
  return new GuestError('start-failed', `${engine} does not load the image archive ${name}: ${why}`, {
    cause,
  });
}
