import { open } from 'node:fs/promises';
import { AppError } from '@dstack-cloud/app';
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
import type { EngineImages } from './engine-images.ts';

/** Most archives on one disk. */
const MAX_ARCHIVES = 256;

export interface LoadImagesOptions {
  /** File or disk with a tar archive of image archives; the host gives it, and may give anything. */
  readonly disk: string;
  readonly engine: EngineImages;
  readonly file: ComposeFile;
  /** What interpolation takes its values from. */
  readonly env: Readonly<Record<string, string>>;
  readonly say: (line: string) => void;
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
async function heldBy({ engine }: LoadImagesOptions, { reference, image }: Use): Promise<string | undefined> {
  const ids = [image.id, ...image.digests].map((hex) => `sha256:${hex}`);
  if (reference.kind === 'tag') {
    const found = await engine.idOf(reference.name);
    return found !== undefined && ids.includes(found) ? found : undefined;
  }
  for (const id of ids) if ((await engine.idOf(id)) === id) return id;
  return undefined;
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
  await options.engine.load(archive.name, content);
  const held = await heldBy(options, use);
  if (held === undefined) throw differs(use);
  return held;
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
