import { readdir, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { temporaryName } from '@dstack-cloud/files';
import { imagesDiskSize, OsImageError, writeImagesDisk } from '@dstack-cloud/os-image';
import { VmmError } from '../errors.ts';
import { imagesDiskName, isImagesDisk } from '../manifest/images-disk-name.ts';
import type { CvmManifest } from '../manifest/manifest.ts';
import { freeBytes } from '../vm/data-disk.ts';

/** Refuses container images that there is no room for, before anything is changed. @throws VmmError `no_space`, `bad_option` */
export async function requireImagesSpace(folder: string, sources: readonly string[]): Promise<void> {
  if (sources.length === 0) return;
  const size = await imagesDiskSize(sources).catch((cause: unknown) => {
    throw new VmmError('bad_option', `Container images cannot be used: ${(cause as Error).message}`, {
      cause,
    });
  });
  const free = await freeBytes(folder);
  if (free < size)
    throw new VmmError(
      'no_space',
      `${folder} has too little room for the container images: free some space, or move the folder of machines (run_path)`,
      { expected: `at least ${size} bytes`, found: `${free} bytes` },
    );
}

/** Writes the disk with these images into the folder of a machine; returns its name, or null without images. */
export async function placeImages(folder: string, sources: readonly string[]): Promise<string | null> {
  if (sources.length === 0) return null;
  const staged = join(folder, temporaryName('images'));
  try {
    const digest = await writeImagesDisk(sources, staged);
    const name = imagesDiskName(digest);
    await rename(staged, join(folder, name));
    return name;
  } catch (cause) {
    await rm(staged, { force: true });
    if (cause instanceof OsImageError)
      throw new VmmError('bad_option', `Container images cannot be used: ${cause.message}`, { cause });
    throw cause;
  }
}

/** Name of the disk with container images that a machine has. */
export function imagesDiskOf(manifest: CvmManifest): string | null {
  if (manifest.driver === 'process') return manifest.runner.images_disk;
  if (manifest.driver === 'enclave') return null;
  return manifest.vm.images_disk === null ? null : basename(manifest.vm.images_disk);
}

/** Removes disks with container images that no revision of the machine has any more. */
export async function removeOtherImages(folder: string, kept: readonly (string | null)[]): Promise<void> {
  for (const name of await readdir(folder))
    if (isImagesDisk(name) && !kept.includes(name)) await rm(join(folder, name), { force: true });
}
