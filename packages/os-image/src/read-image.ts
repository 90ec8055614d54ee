import { createHash } from 'node:crypto';
import { lstat, open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { utf8Text } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { OsImageError } from './errors.ts';
import { openRegular } from './open-regular.ts';

const MAX_METADATA = 64 * 1024;
const MAX_LIST = 64 * 1024;
/** On the command line of images for development. */
const DEV_WORD = 'dstack.flavour=dev';
const LINE = /^([0-9a-f]{64}) {2}([A-Za-z0-9._-]{1,64})$/;
const fileName = z.string().regex(/^[A-Za-z0-9._-]{1,128}$/);

const metadataSchema = z.looseObject({
  kernel: fileName,
  initrd: fileName,
  cmdline: z.string().max(4096),
  bios: fileName.optional(),
  rootfs: fileName.optional(),
  version: z.string().max(64).default(''),
  is_dev: z.boolean().default(false),
  shared_ro: z.boolean().default(true),
});

/** An OS image in a folder, as far as its own description goes. */
export interface OsImageFolder {
  readonly folder: string;
  readonly version: string;
  readonly isDev: boolean;
  readonly commandLine: string;
  /** Text of its metadata.json. */
  readonly metadata: string;
  /** Names of files in the folder. */
  readonly kernel: string;
  readonly initrd: string;
  readonly firmware: string | undefined;
  readonly rootfs: string | undefined;
  /** SHA-256 of `sha256sum.txt`, hex: the image's name on chain. */
  readonly digest: string;
  /** What `sha256sum.txt` lists: hex SHA-256 by file name. */
  readonly listed: ReadonlyMap<string, string>;
}

/** Reads the description of an image and checks that the files it names are there. @throws OsImageError `not-an-image` */
export async function readImage(folder: string): Promise<OsImageFolder> {
  const bytes = await bounded(folder, 'metadata.json', MAX_METADATA);
  let metadata: string;
  let json: unknown;
  try {
    metadata = utf8Text(bytes);
    json = JSON.parse(metadata);
  } catch (cause) {
    throw notAnImage(folder, 'metadata.json is not JSON', cause);
  }
  const parsed = metadataSchema.safeParse(json);
  if (!parsed.success) throw notAnImage(folder, `metadata.json: ${z.prettifyError(parsed.error)}`);
  // The measured command line decides; whoever asks for production images looks at the description.
  if (!parsed.data.is_dev && parsed.data.cmdline.split(' ').includes(DEV_WORD))
    throw notAnImage(folder, `metadata.json says "is_dev": false, and its command line has ${DEV_WORD}`);
  const list = await bounded(folder, 'sha256sum.txt', MAX_LIST);
  const listed = new Map<string, string>();
  for (const line of new TextDecoder().decode(list).split('\n').filter(Boolean)) {
    const [, hash, name] = LINE.exec(line) ?? [];
    if (hash === undefined || name === undefined || listed.has(name))
      throw notAnImage(folder, `sha256sum.txt has the line ${JSON.stringify(line)}`);
    listed.set(name, hash);
  }
  const { kernel, initrd, bios, rootfs, cmdline, version, is_dev } = parsed.data;
  for (const name of [kernel, initrd, bios, rootfs])
    if (name !== undefined && !(await isFile(join(folder, name))))
      throw notAnImage(folder, `${name} is missing`);
  return {
    folder,
    version,
    isDev: is_dev,
    commandLine: cmdline,
    metadata,
    kernel,
    initrd,
    firmware: bios,
    rootfs,
    digest: createHash('sha256').update(list).digest('hex'),
    listed,
  };
}

/** A file that is not what the image says of it. */
export interface ChangedFile {
  readonly name: string;
  readonly expected: string;
  /** Undefined when the file is missing. */
  readonly found: string | undefined;
}

/** Compares every listed file with its hash. */
export async function changedFiles(image: OsImageFolder): Promise<ChangedFile[]> {
  const changed: ChangedFile[] = [];
  for (const [name, expected] of image.listed) {
    const found = await sha256File(join(image.folder, name));
    if (found !== expected) changed.push({ name, expected, found });
  }
  return changed;
}

/** Hex SHA-256 of a regular file; undefined when it does not exist. @throws OsImageError `not-an-image` */
export async function sha256File(path: string): Promise<string | undefined> {
  const file = await openRegular(path);
  if (file === undefined) return undefined;
  const hash = createHash('sha256');
  // The stream closes the file.
  await pipeline(file.createReadStream(), hash);
  return hash.digest('hex');
}

/** Names of the folders below this one, links to folders included, that hold an image; an absent folder holds none. */
export async function imageNames(folder: string): Promise<string[]> {
  const names: string[] = [];
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  for (const entry of entries) {
    if (entry.name.startsWith('.')) continue;
    const path = join(folder, entry.name);
    // A link that leads nowhere was an image once: it is listed, and reading it says what is wrong.
    if (entry.isSymbolicLink() && !(await isThere(path))) names.push(entry.name);
    else if (await isFile(join(path, 'metadata.json'))) names.push(entry.name);
  }
  return names.sort();
}

async function bounded(folder: string, name: string, max: number): Promise<Uint8Array> {
  const path = join(folder, name);
  if (!(await isFile(path))) throw notAnImage(folder, `${name} is missing`);
  const handle = await open(path);
  try {
    const { size } = await handle.stat();
    if (size > max) throw notAnImage(folder, `${name} has ${size} bytes, more than ${max}`);
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}

/** Regular files only: an image may be somebody else's folder. */
async function isFile(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isFile();
  } catch (error) {
    if (isNothing(error)) return false;
    throw error;
  }
}

/** Whether a path leads to something, links followed. */
async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (isNothing(error)) return false;
    throw error;
  }
}

/** The errors by which a path leads to nothing: absent, below a file, or a link to itself. */
function isNothing(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR', 'ELOOP'].includes((error as NodeJS.ErrnoException).code ?? '');
}

function notAnImage(folder: string, why: string, cause?: unknown): OsImageError {
  return new OsImageError('not-an-image', `${folder} is not an OS image: ${why}`, { cause });
}
