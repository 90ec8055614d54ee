import { open, stat } from 'node:fs/promises';
import type { AppCompose } from '@dstack-cloud/app';
import { ComposeValues, readComposeFile } from '@dstack-cloud/app/compose-file';
import {
  type ArchivedImage,
  fileRange,
  type ImageReference,
  isNamedBy,
  parseImageReference,
  readImageArchive,
} from '@dstack-cloud/app/image-archive';
import { CliError, messageOf } from '../../errors.ts';
import { imagePathOf } from '../../project/project-path.ts';
import type { Place } from '../platform.ts';
import { readLayout } from './read-layout.ts';

/** Paths of the archives and layouts that `local_config.images` of app.json names. @throws CliError `bad_app_json` */
export async function imagePaths({ project }: Place): Promise<string[]> {
  const { images } = project.config.local_config;
  return await Promise.all(images.map(async (name) => await imagePathOf(project.directory, name)));
}

/**
 * Reads the archives as the guest will, and compares them with what the compose file names.
 *
 * @param isNew whether the machine is yet to be made, and so has no image from before
 * @returns what the machine would have to fetch all the same
 * @throws CliError `bad_app_json` for one that is missing, damaged, or holds nothing that the compose file names
 */
export async function checkImages(
  place: Place,
  compose: AppCompose,
  isNew: boolean,
): Promise<readonly string[]> {
  const paths = await imagePaths(place);
  if (paths.length === 0 || compose.runner !== 'docker-compose') return [];
  const services = named(compose.dockerComposeFile ?? '');
  const found = new Set<string>();
  for (const path of paths) {
    const images = await read(path);
    const uses = services.filter(({ reference }) => images.some((image) => isNamedBy(image, reference)));
    if (uses.length === 0) throw useless(path, images, services);
    for (const { service } of uses) found.add(service);
  }
  const absent = services.filter(({ service }) => !found.has(service));
  const unnamed = absent.find(({ text }) => /^sha256:[0-9a-f]{64}$/.test(text));
  if (unnamed !== undefined && isNew)
    throw new CliError(
      'bad_app_json',
      `Service ${unnamed.service}: image ${unnamed.text} is in none of local_config.images, and no registry gives an image by its id`,
      {
        expected: 'an archive with this image, or a name that a registry knows',
        found: unnamed.text,
        hint: 'Add the archive to local_config.images in app.json',
      },
    );
  return absent.map(
    ({ service, text }) =>
      `Service ${service}: image ${text} is in none of local_config.images; the machine has it already, or fetches it`,
  );
}

interface NamedImage {
  readonly service: string;
  readonly text: string;
  readonly reference: ImageReference;
}

function named(text: string): NamedImage[] {
  const file = readComposeFile(text);
  const values = new ComposeValues(file.source, { variables: {}, isDraft: true });
  return [...file.services].flatMap(([service, body]) => {
    const image = values.member(body, 'image') ?? '';
    const reference = parseImageReference(image);
    return reference === undefined ? [] : [{ service, text: image, reference }];
  });
}

async function read(path: string): Promise<readonly ArchivedImage[]> {
  const status = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    const why = cause.code === 'ENOENT' ? 'does not exist' : `cannot be used: ${cause.message}`;
    throw unusable(`${path} in local_config.images ${why}`, cause);
  });
  try {
    if (status.isDirectory()) return await readLayout(path);
    const handle = await open(path, 'r');
    try {
      if (!(await handle.stat()).isFile()) throw new Error('it is no regular file');
      return await readImageArchive(fileRange(handle));
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw unusable(`${path} cannot be used: ${messageOf(cause)}`, cause);
  }
}

function unusable(message: string, cause: unknown): CliError {
  return new CliError('bad_app_json', message, {
    cause,
    expected: 'an archive of docker save, or an OCI image layout as archive or folder',
    hint: 'Make it with docker save, with skopeo copy docker://… oci-archive:…, or with dstack-cloud image container',
  });
}

function useless(path: string, images: readonly ArchivedImage[], services: readonly NamedImage[]): CliError {
  const held = images.flatMap(({ names, digests, id }) => [
    ...names,
    ...digests.map((hex) => `digest sha256:${hex}`),
    `id sha256:${id}`,
  ]);
  return new CliError('bad_app_json', `${path} has no image that the compose file names`, {
    expected: services.map(({ text }) => text).join(', ') || 'an image of a service',
    found: held.slice(0, 12).join(', '),
    hint: 'Correct image: in the compose file or local_config.images in app.json. An archive of docker save has no digest of a registry: name its image by tag or by id',
  });
}
