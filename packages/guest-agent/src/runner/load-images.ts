import { execFile, spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { AppError, type ContainerEngine } from '@dstack-cloud/app';
import { type ComposeFile, ComposeValues } from '@dstack-cloud/app/compose-file';
import {
  type ArchivedImage,
  fileRange,
  type ImageReference,
  imageStream,
  isNamedBy,
  parseImageReference,
  piecesOf,
  readImageArchive,
  type TarFile,
  tarFiles,
} from '@dstack-cloud/app/image-archive';
import { GuestError } from '../errors.ts';
import { lastWords } from '../last-words.ts';

/** Most archives on one disk. */
const MAX_ARCHIVES = 256;
/** An engine that takes longer for one archive is stuck. */
const LOAD_TIMEOUT_MS = 30 * 60_000;
const INSPECT_TIMEOUT_MS = 60_000;

export interface LoadImagesOptions {
  /** File or disk with a tar archive of image archives; the host gives it, and may give anything. */
  readonly disk: string;
  readonly engine: ContainerEngine;
  readonly file: ComposeFile;
  /** Environment of the engine's client; interpolation takes its values from here too. */
  readonly env: Readonly<Record<string, string>>;
  readonly say: (line: string) => void;
  readonly signal?: AbortSignal;
}

/**
 * Loads the images that the compose file names from a disk into the engine; those that are there already are not loaded
 * again. Nothing on the disk is mounted or unpacked here.
 *
 * An image that the compose file names by digest or id is looked for by that alone, and the engine must say after
 * loading that it has exactly this one: the compose file is measured, the disk is not.
 *
 * @returns by service, the id to run it from, where the compose file says by digest which image that is
 * @throws GuestError `image-refused`, `start-failed`
 */
export async function loadImages(options: LoadImagesOptions): Promise<ReadonlyMap<string, string>> {
  const { disk, file, env } = options;
  const wanted = wantedImages(file, env);
  const chosen = new Map<string, string>();
  const handle = await open(disk, 'r').catch((cause: unknown) => {
    throw new GuestError('start-failed', `The disk with container images ${disk} cannot be opened`, {
      cause,
    });
  });
  try {
    let archives = 0;
    for await (const archive of tarFiles(fileRange(handle))) {
      if (++archives > MAX_ARCHIVES)
        throw new GuestError('image-refused', `The disk has more than ${MAX_ARCHIVES} image archives`);
      const images = await readImageArchive(archive.content);
      const uses = wanted.flatMap(({ service, reference }) => {
        const image = images.find((one) => isNamedBy(one, reference));
        return image === undefined || chosen.has(service) ? [] : [{ service, reference, image }];
      });
      if (uses.length === 0) continue;
      for (const use of uses) {
        const held = (await heldBy(options, use)) ?? (await loadOne(options, archive, use));
        chosen.set(use.service, use.reference.kind === 'tag' ? '' : held);
      }
    }
  } catch (cause) {
    if (cause instanceof AppError && cause.code === 'image-archive-invalid')
      throw new GuestError('image-refused', 'The disk with container images cannot be used', { cause });
    throw cause;
  } finally {
    await handle.close();
  }
  return new Map([...chosen].filter(([, id]) => id !== ''));
}

interface Wanted {
  readonly service: string;
  readonly reference: ImageReference;
}

interface Use extends Wanted {
  readonly image: ArchivedImage;
}

function wantedImages(file: ComposeFile, env: Readonly<Record<string, string>>): Wanted[] {
  const values = new ComposeValues(file.source, { variables: env });
  return [...file.services].flatMap(([service, body]) => {
    const reference = parseImageReference(values.member(body, 'image') ?? '');
    return reference === undefined ? [] : [{ service, reference }];
  });
}

/**
 * The id under which the engine has the image; undefined when it has not. Engines name an image by its configuration;
 * with containerd's store, by its manifest.
 */
async function heldBy(options: LoadImagesOptions, { reference, image }: Use): Promise<string | undefined> {
  const ids = [image.id, ...image.digests].map((hex) => `sha256:${hex}`);
  if (reference.kind === 'tag') {
    const found = await inspect(options, reference.name);
    return found !== undefined && ids.includes(found) ? found : undefined;
  }
  for (const id of ids) if ((await inspect(options, id)) === id) return id;
  return undefined;
}

async function inspect(
  { engine, env, signal }: LoadImagesOptions,
  name: string,
): Promise<string | undefined> {
  return await new Promise((resolve, reject) => {
    const args = ['image', 'inspect', '--format', '{{.Id}}', name];
    const settings = { env: { ...env }, timeout: INSPECT_TIMEOUT_MS, ...(signal ? { signal } : {}) };
    execFile(engine.name, args, settings, (error, stdout) => {
      if (error === null) return resolve(`sha256:${stdout.trim().replace(/^sha256:/, '')}`);
      // A status is the engine's answer; anything else is none.
      if (typeof error.code === 'number') return resolve(undefined);
      reject(new GuestError('start-failed', `${engine.name} cannot be asked for images`, { cause: error }));
    });
  });
}

/** Loads an image, and has the engine say that it has this one. */
async function loadOne(options: LoadImagesOptions, archive: TarFile, use: Use): Promise<string> {
  const { layout } = use.image;
  const names = use.reference.kind === 'tag' ? [use.reference.name] : [];
  options.say(
    `Loading the image of ${use.service} (archive ${archive.name}, ${Math.ceil(archive.size / 1e6)} MB)`,
  );
  // An archive of the older form, without digests of its parts, is left to the engine as a whole.
  const content = layout === undefined ? piecesOf(archive.content, archive.size) : imageStream(layout, names);
  await load(archive.name, content, options);
  const held = await heldBy(options, use);
  if (held === undefined) throw differs(use);
  return held;
}

async function load(
  name: string,
  content: AsyncIterable<Uint8Array>,
  { engine, env, signal }: LoadImagesOptions,
): Promise<void> {
  const limit = AbortSignal.timeout(LOAD_TIMEOUT_MS);
  const child = spawn(engine.name, ['load'], {
    env: { ...env },
    stdio: ['pipe', 'ignore', 'pipe'],
    signal: signal === undefined ? limit : AbortSignal.any([signal, limit]),
    killSignal: 'SIGKILL',
  });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString('utf8')).slice(-2000);
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  // An engine that refuses stops reading; its own words say more than the broken pipe.
  const fed = pipeline(content, child.stdin).catch((cause: unknown) => cause);
  const [code, cause] = await Promise.all([ended, fed]);
  if (code !== 0)
    throw new GuestError(
      'start-failed',
      `${engine.name} does not load the image archive ${name}: ${lastWords(said) || `status ${code}`}`,
      { cause },
    );
}

function differs({ service, reference, image }: Use): GuestError {
  const expected = reference.kind === 'tag' ? `${reference.name}, sha256:${image.id}` : `sha256:${image.id}`;
  return new GuestError(
    'image-refused',
    `The archive of the image of ${service} holds another image than it says`,
    {
      expected,
      found: 'not among the images of the engine after loading',
    },
  );
}
