import { createHash } from 'node:crypto';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readFileBounded } from '@dstack-cloud/app';
import { FilesError, isThere, temporaryName, withLock } from '@dstack-cloud/files';
import { readImage } from '@dstack-cloud/os-image';
import { isPlainRemote } from '@dstack-cloud/policy';
import { collectBytes } from '@dstack-cloud/runtime';
import { loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { downloadArchive, fileHash } from '../image/download-archive.ts';
import { imageSource } from '../image/image-url.ts';
import { imageFolder, imagePath } from '../image/places.ts';
import { requireAbsent } from '../image/require-absent.ts';
import { requireSoundImage } from '../image/require-sound-image.ts';
import { unpackImage } from '../image/unpack-image.ts';
import { lockFolder } from '../project/project-lock.ts';

const SHA256 = /^[0-9a-f]{64}$/;
/** A hash and the name of a file. */
const MAX_HASH_FILE = 4096;

/** `pull`: an OS image from where it was released, from an address or from a file, whole or not at all. */
export async function run(
  context: Context,
  args: readonly (string | undefined)[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const given = args[0] ?? (flags['osImage'] as string | undefined);
  if (given === undefined)
    throw new CliError('usage', 'Name an image, its URL or its archive', { exitCode: EXIT.usage });
  const wanted = flags['sha256'] === undefined ? undefined : String(flags['sha256']).toLowerCase();
  if (wanted !== undefined && !SHA256.test(wanted))
    throw new CliError('bad_argument', '--sha256 must be 64 hex digits', {
      found: wanted,
      exitCode: EXIT.usage,
    });
  const { url, name } = imageSource(context, given);
  const folder = imageFolder(context, await loadGlobalConfig(context));
  const target = imagePath(folder, name);
  await mkdir(folder, { recursive: true });
  await alone(context, target, () => fetchImage(context, { url, name, wanted, folder, target }));
  return undefined;
}

/** What is fetched, and where to. */
interface Fetched {
  readonly url: URL;
  readonly name: string;
  /** SHA-256 of the archive that the user gave. */
  readonly wanted: string | undefined;
  readonly folder: string;
  readonly target: string;
}

/** Two at once would write into one unfinished download. @throws CliError `busy` */
async function alone(context: Context, target: string, body: () => Promise<void>): Promise<void> {
  const locks = lockFolder(context);
  if (locks === undefined) return await body();
  const lock = `image-${createHash('sha256').update(target).digest('hex').slice(0, 16)}`;
  const options = { waitMs: 0, what: target, signal: context.signal };
  let entered = false;
  try {
    await withLock(locks, lock, options, async () => {
      entered = true;
      await body();
    });
  } catch (cause) {
    if (entered || !(cause instanceof FilesError) || cause.code !== 'locked') throw cause;
    throw new CliError('busy', `Another dstack-cloud pulls ${target} at the moment`, {
      cause,
      hint: 'Wait until it has ended; if it is ended before, this command goes on where it was',
    });
  }
}

async function fetchImage(context: Context, { url, name, wanted, folder, target }: Fetched): Promise<void> {
  await requireAbsent(
    target,
    `It is here already; to get it again, remove it with dstack-cloud image rm ${name}`,
  );
  const isFile = url.protocol === 'file:';
  const archive = isFile ? fileURLToPath(url) : join(folder, `.${name}.tar.gz.part`);
  if (!isFile) {
    if (isPlainRemote(url) && wanted === undefined)
      context.warn(`${url.origin} is plain HTTP: whoever is on the way can change the image; pass --sha256`);
    context.info(`Downloading ${url}`);
    await downloadArchive(context, url, archive);
  } else if (!isThere(archive))
    throw new CliError('file_missing', `${archive} does not exist`, { hint: 'Correct the path' });
  else if (!(await stat(archive)).isFile())
    throw new CliError('refused', `${archive} is not a regular file`, {
      hint: 'Name an archive of an image',
    });
  const expected = wanted ?? (await besideHash(url, archive, isFile));
  const found = await fileHash(archive);
  if (expected !== undefined && found !== expected) {
    // Going on with it would never get better.
    if (!isFile) await rm(archive, { force: true });
    throw new CliError('refused', `The archive of ${name} is not the one that it should be`, {
      ...{ expected, found },
      hint: 'Download it again, and check where the hash comes from',
    });
  }
  context.info(`Unpacking ${name}`);
  const temporary = join(folder, temporaryName(name));
  try {
    const files = await unpackImage(archive, temporary);
    if (await checkListed(temporary, files)) await requireSoundImage(await readImage(temporary));
    await rename(temporary, target);
    if (!isFile) await rm(archive, { force: true });
    const hash = await hashIn(target, files);
    if (!files.includes('disk.raw'))
      context.warn(
        `${name} has no disk.raw: it boots on bare metal alone; Google Cloud needs the archive whose name ends with -uki.tar.gz`,
      );
    context.print(`folder:         ${target}`);
    context.print(`archive sha256: ${found}`);
    if (hash !== undefined) context.print(`os-image-hash:  ${hash}`);
    context.result({ name, folder: target, archive_sha256: found, os_image_hash: hash ?? null, files });
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** What a file `ARCHIVE.sha256` beside it says, as `sha256sum` writes it; there need be none. */
async function besideHash(url: URL, archive: string, isFile: boolean): Promise<string | undefined> {
  let text: string;
  if (isFile) {
    if (!isThere(`${archive}.sha256`)) return undefined;
    text = new TextDecoder().decode(await readFileBounded(`${archive}.sha256`, MAX_HASH_FILE));
  } else {
    const beside = new URL(url);
    beside.pathname += '.sha256';
    const response = await fetch(beside, { signal: AbortSignal.timeout(15_000) });
    if (response.status === 404) return void (await response.body?.cancel());
    if (!response.ok) {
      await response.body?.cancel();
      throw new CliError('unreachable', `${beside} answers ${response.status}`);
    }
    const tooLong = (): CliError => new CliError('refused', `${beside} has more than ${MAX_HASH_FILE} bytes`);
    const bytes = await collectBytes(response.body ?? new Blob([]).stream(), MAX_HASH_FILE, tooLong);
    text = new TextDecoder().decode(bytes);
  }
  const hash = text.trim().split(/\s+/)[0]?.toLowerCase() ?? '';
  if (SHA256.test(hash)) return hash;
  throw new CliError('refused', `The file beside the archive holds no SHA-256`, { found: hash.slice(0, 80) });
}

/** Files that `sha256sum.txt` lists must have those hashes. @returns whether all that it lists, and a description, are there */
async function checkListed(folder: string, files: readonly string[]): Promise<boolean> {
  if (!files.includes('sha256sum.txt')) return false;
  let whole = files.includes('metadata.json');
  const text = new TextDecoder().decode(await readFileBounded(join(folder, 'sha256sum.txt'), 64 * 1024));
  for (const line of text.split('\n').filter(Boolean)) {
    const [, hash, name] = /^([0-9a-f]{64}) [ *](\S+)$/.exec(line) ?? [];
    // An archive for the cloud lists what only bare metal needs.
    if (name === undefined || !files.includes(name)) {
      whole = false;
      continue;
    }
    const found = await fileHash(join(folder, name));
    if (found !== hash)
      throw new CliError('refused', `${name} in the archive is damaged`, { expected: hash ?? '', found });
  }
  return whole;
}

async function hashIn(folder: string, files: readonly string[]): Promise<string | undefined> {
  const name = ['auth_hash.txt', 'digest.txt'].find((one) => files.includes(one));
  if (name === undefined) return undefined;
  return new TextDecoder().decode(await readFileBounded(join(folder, name), 1024)).trim();
}
