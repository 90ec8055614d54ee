import { constants } from 'node:fs';
import { copyFile, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { EifError, openSource, osImageHash, type Pcrs, readEif, type Section } from '@dstack-cloud/eif';
import { temporaryName } from '@dstack-cloud/files';
import { VmmError } from '../errors.ts';
import { enclaveFileName, isEnclaveFile } from '../manifest/enclave-settings.ts';
import type { CvmManifest } from '../manifest/manifest.ts';
import { freeBytes } from '../vm/data-disk.ts';

/** The image, its unpacked root, and room for logs. */
const COPIES = 3;

/** An enclave image that was read and found whole. */
export interface CheckedEnclave {
  readonly pcrs: Pcrs;
  /** Hex. */
  readonly osImageHash: string;
  readonly sections: readonly Section[];
}

/** Reads an enclave image from end to end. @throws VmmError `bad_image` */
export async function checkEnclaveImage(path: string): Promise<CheckedEnclave> {
  try {
    const source = await openSource(path);
    try {
      const { pcrs, crc32, header, sections } = await readEif(source);
      if (crc32 === header.crc32) return { pcrs, osImageHash: osImageHash(pcrs), sections };
      throw new VmmError('bad_image', `The enclave image ${path} is damaged: its checksum is wrong`);
    } finally {
      await source.close();
    }
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (!(cause instanceof EifError) && code !== 'ENOENT') throw cause;
    throw new VmmError('bad_image', `The enclave image ${path} cannot be used: ${(cause as Error).message}`, {
      cause,
    });
  }
}

let remembered: { readonly file: string; readonly checked: CheckedEnclave } | undefined;

/**
 * The same for a file that is checked again and again before it is copied; the copy itself is always read.
 *
 * @throws VmmError `bad_image`
 */
export async function checkGivenEnclave(path: string): Promise<CheckedEnclave> {
  const status = await stat(path, { bigint: true }).catch(() => undefined);
  if (status === undefined) return await checkEnclaveImage(path);
  const { dev, ino, size, mtimeNs, ctimeNs } = status;
  const file = [path, dev, ino, size, mtimeNs, ctimeNs].join(' ');
  if (remembered?.file !== file) remembered = { file, checked: await checkEnclaveImage(path) };
  return remembered.checked;
}

/** Refuses an image that there is no room for. @throws VmmError `no_space` */
export async function requireEnclaveSpace(folder: string, path: string): Promise<void> {
  const source = await openSource(path);
  await source.close();
  const free = await freeBytes(folder);
  if (free >= COPIES * source.size) return;
  throw new VmmError(
    'no_space',
    `${folder} has too little room for the enclave: free some space, or move local.run_path`,
    {
      expected: `at least ${COPIES * source.size} bytes`,
      found: `${free} bytes`,
    },
  );
}

/** Copies an enclave image into the folder of a machine; what was copied is what was measured, or it is refused. */
export async function placeEnclave(folder: string, path: string, hash: string): Promise<void> {
  const staged = join(folder, temporaryName('enclave'));
  try {
    await copyFile(path, staged, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    const copied = await checkEnclaveImage(staged);
    if (copied.osImageHash !== hash)
      throw new VmmError('bad_image', `${path} changed while the machine was made`, {
        expected: hash,
        found: copied.osImageHash,
      });
    await rename(staged, join(folder, enclaveFileName(hash)));
  } catch (error) {
    await rm(staged, { force: true });
    throw error;
  }
}

/** Removes enclave images that no revision of the machine has any more. */
export async function removeOtherEnclaves(folder: string, manifest: CvmManifest): Promise<void> {
  if (manifest.driver !== 'enclave') return;
  for (const name of await readdir(folder))
    if (isEnclaveFile(name) && name !== manifest.enclave.file) await rm(join(folder, name), { force: true });
}
