import { createHash } from 'node:crypto';
import { lstat, open, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import { isThere, makeOwnDirectory } from '@dstack-cloud/files';
import { expandHome } from '../../context.ts';
import { CliError } from '../../errors.ts';
import { imageFolders } from '../../image/places.ts';
import { requireSoundFolder } from '../../image/require-sound-image.ts';
import type { Prepared } from '../../project/shared-files.ts';
import type { Place } from '../platform.ts';
import type { GcpImage } from './api/compute-api.ts';
import type { UploadRecord } from './api/upload-object.ts';
import { bootArchive } from './disks/boot-archive.ts';
import type { GcpPlace } from './gcp-place.ts';
import type { GcpSettings } from './gcp-settings.ts';
import { findImage, makeImage } from './made-image.ts';

/** What Google has to know of an image for a machine with TDX. */
const FEATURES = ['UEFI_COMPATIBLE', 'TDX_CAPABLE', 'GVNIC'] as const;
const PROGRESS_STEP = 64 * 1024 * 1024;

/** Name of the boot image: of its content, so that equal ones are made once and none replaces another. */
export function bootImageName(settings: GcpSettings, osImage: string, osImageHash: string): string {
  if (settings.bootImage !== '') return settings.bootImage;
  const clean = osImage
    .toLowerCase()
    .replace(/[^a-z0-9-]/g, '-')
    .replace(/^[^a-z]+/, '');
  return `${(clean || 'image').slice(0, 54).replace(/-+$/, '')}-${osImageHash.slice(0, 8)}`;
}

/**
 * The disk of the project's OS image.
 * @throws CliError `file_missing`: none is there, or the archive for bare metal is, which boots no machine of Google's
 */
export async function bootDiskFile({
  context,
  config,
  project,
}: Place): Promise<{ path: string; size: number }> {
  const { os_image: name } = project.config;
  const tar = project.config.gcp_config['boot_image_tar'];
  const named =
    typeof tar === 'string' && tar !== '' ? resolve(project.directory, expandHome(context, tar)) : undefined;
  const folders = [
    ...config.image_search_paths.map((path) => resolve(project.directory, expandHome(context, path))),
    ...imageFolders(context, config),
  ].map((folder) => join(folder, name));
  for (const path of named === undefined ? folders.map((folder) => join(folder, 'disk.raw')) : [named]) {
    if (!isThere(path)) continue;
    const { size } = await stat(path);
    await requireBootable(path);
    return { path, size };
  }
  for (const folder of folders)
    if (isThere(join(folder, 'metadata.json')))
      throw new CliError(
        'file_missing',
        `OS image ${name} has no disk.raw: it is the archive for bare metal`,
        {
          expected: `${folder}/disk.raw, from the archive whose name ends with -uki.tar.gz`,
          hint: `dstack-cloud pull ${name}`,
        },
      );
  throw new CliError('file_missing', `Boot image '${name}' not found locally.`, {
    expected: `disk.raw in ${folders.join(' or ')}`,
    hint: `dstack-cloud pull ${name}, or dstack-cloud image build`,
  });
}

/** The boot image in Google's project; uploaded only when none of this content is there. Its name. */
export async function ensureBootImage(gcp: GcpPlace, prepared: Prepared, force: boolean): Promise<string> {
  const { place, settings } = gcp;
  const { context } = place;
  const { os_image: osImage } = place.project.config;
  const name = bootImageName(settings, osImage, prepared.osImageHash);
  const known = await findImage(gcp, name);
  if (known !== undefined && !(force && settings.bootImage === '')) {
    requireTdx(known);
    context.debug(`Boot image ${name} is there`);
    return name;
  }
  if (settings.bootImage !== '') throw noSuchImage(settings);
  const { path, size } = await bootDiskFile(place);
  // Machines that run keep their disks when the image goes.
  if (known !== undefined) context.info(`Making image ${name} again`);
  context.info(`Uploading boot image ${name} (${(size / 1e6).toFixed(0)} MB before compression)`);
  let said = 0;
  await makeImage(gcp, {
    name,
    features: FEATURES,
    description: `dstack OS image ${osImage}, os-image-hash ${prepared.osImageHash}`,
    replaces: known !== undefined,
    content: () => bootArchive(path, size),
    record: await uploadRecord(place, `${settings.bucket}/${name}`, path),
    onProgress: (bytes) => {
      if (bytes - said < PROGRESS_STEP) return;
      said = bytes;
      context.info(`  ${(bytes / 1e6).toFixed(0)} MB sent`);
    },
  });
  return name;
}

/** The boot image can be had: it is there and boots with TDX, or this host has the disk for it. Makes nothing. @throws CliError */
export async function requireBootImage(gcp: GcpPlace, name: string, force: boolean): Promise<void> {
  const { settings, place } = gcp;
  const known = await findImage(gcp, name);
  if (known !== undefined && !(force && settings.bootImage === '')) requireTdx(known);
  else if (settings.bootImage !== '') throw noSuchImage(settings);
  else {
    const { path } = await bootDiskFile(place);
    // Once for each image: what is at Google already was checked when it was sent.
    if (settings.bootImageTar === '') await requireSoundFolder(dirname(path));
  }
}

function requireTdx({ name, guestOsFeatures }: GcpImage): void {
  const features = guestOsFeatures?.map(({ type }) => type) ?? [];
  if (features.includes('TDX_CAPABLE')) return;
  throw new CliError('refused', `Image ${name} is not TDX_CAPABLE, so no machine with TDX boots it`, {
    expected: FEATURES.join(', '),
    found: features.join(', ') || 'no features',
    hint: 'Leave gcp_config.boot_image empty, so that deploy makes one, or make that image again with these features',
  });
}

function noSuchImage({ bootImage, project }: GcpSettings): CliError {
  return new CliError('file_missing', `There is no image ${bootImage} in project ${project}`, {
    hint: 'Leave gcp_config.boot_image empty, so that deploy makes one',
  });
}

/** UEFI boots only what begins with a partition table. */
async function requireBootable(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    const start = Buffer.alloc(520);
    const { bytesRead } = await file.read(start, 0, start.length, 0);
    if (bytesRead === start.length && start.toString('latin1', 512, 520) === 'EFI PART') return;
  } finally {
    await file.close();
  }
  throw new CliError('file_missing', `${path} is no bootable disk`, {
    expected: 'a disk with a GPT partition table: disk.raw of the archive whose name ends with -uki.tar.gz',
    hint: 'dstack-cloud pull NAME, or dstack-cloud image build',
  });
}

/** An upload under way, in a folder of ours: its address alone lets anybody write the rest. */
async function uploadRecord({ context }: Place, target: string, source: string): Promise<UploadRecord> {
  const folder = expandHome(context, '~/.local/share/dstack-cloud/uploads');
  makeOwnDirectory(folder);
  const { size, mtimeMs } = await lstat(source);
  // Another file, or another compressor, gives other bytes: what was sent of them is of no use.
  const what = [target, source, size, mtimeMs, process.versions['zlib']].join('\n');
  const path = join(folder, createHash('sha256').update(what).digest('hex'));
  return {
    load: async () => {
      if (!isThere(path)) return undefined;
      return new TextDecoder().decode(await readFileBounded(path, 16 * 1024, { noFollow: true }));
    },
    save: async (url) => await writeFileAtomic(path, url),
    forget: async () => await rm(path, { force: true }),
  };
}
