import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { AttestationError } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { readTar, type TarEntry } from './tar-reader.ts';

const CHECKSUM_FILE = 'sha256sum.txt';
const MAX_CHECKSUM_BYTES = 64 * 1024;
/** What an image may unpack to. */
export const MAX_IMAGE_BYTES: number = 4 * 1024 ** 3;

/**
 * Unpacks the archive of an OS image into an empty directory and keeps what belongs to it: `sha256sum.txt` must hash to
 * the image's own hash, and every file that it lists must be there with its hash (chapter 10 section 5.4).
 * @param archive path of a .tar.gz
 * @param hash of the image, 64 hex digits
 * @throws AttestationError `image`, `too-large`
 */
export async function unpackImage(archive: string, directory: string, hash: string): Promise<void> {
  const hashes = new Map<string, string>();
  let total = 0;
  const gunzip = createGunzip();
  const reading = pipeline(createReadStream(archive), gunzip).catch((error: unknown) =>
    gunzip.destroy(error as Error),
  );
  try {
    for await (const entry of readTar(gunzip)) {
      total += entry.size;
      if (total > MAX_IMAGE_BYTES)
        throw new AttestationError('too-large', 'The OS image unpacks to more than 4 GiB');
      if (hashes.has(entry.name)) throw new AttestationError('image', `The OS image has ${entry.name} twice`);
      if (entry.name === '') continue;
      if (entry.type === 'directory')
        await mkdir(join(directory, entry.name), { recursive: true, mode: 0o755 });
      else hashes.set(entry.name, await store(entry, join(directory, entry.name)));
    }
  } catch (error) {
    if (error instanceof AttestationError) throw error;
    throw new AttestationError('image', 'The archive of the OS image cannot be unpacked', { cause: error });
  } finally {
    gunzip.destroy();
    await reading;
  }
  const listed = await checkList(directory, hashes, hash);
  await removeUnlisted(directory, listed);
}

async function store(entry: TarEntry, path: string): Promise<string> {
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  const digest = createHash('sha256');
  const file = await open(path, 'wx', 0o644);
  try {
    for await (const piece of entry.content()) {
      digest.update(piece);
      await file.writeFile(piece);
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return digest.digest('hex');
}

async function checkList(
  directory: string,
  hashes: ReadonlyMap<string, string>,
  hash: string,
): Promise<Set<string>> {
  const found = hashes.get(CHECKSUM_FILE);
  if (found === undefined) throw new AttestationError('image', `The OS image has no ${CHECKSUM_FILE}`);
  if (found !== hash) {
    throw new AttestationError('image', 'os_image_hash does not match sha256sum of the sha256sum.txt', {
      expected: hash,
      found,
    });
  }
  const bytes = new Uint8Array(await readFile(join(directory, CHECKSUM_FILE)));
  if (bytes.length > MAX_CHECKSUM_BYTES)
    throw new AttestationError('too-large', `${CHECKSUM_FILE} is too large`);
  const listed = new Set<string>([CHECKSUM_FILE]);
  for (const line of Buffer.from(bytes).toString('utf8').split('\n')) {
    if (line.trim() === '') continue;
    const [, expected, name = ''] = /^([0-9a-f]{64}) [ *](?:\.\/)?(.+)$/.exec(line) ?? [];
    if (expected === undefined)
      throw new AttestationError('image', `${CHECKSUM_FILE} has a line that is none`);
    if (hashes.get(name) !== expected) {
      throw new AttestationError(
        'image',
        `${name.slice(0, 100)} of the OS image is not what ${CHECKSUM_FILE} lists`,
        {
          expected,
          found: hashes.get(name) ?? 'no such file',
        },
      );
    }
    listed.add(name);
  }
  if (!listed.has('metadata.json')) throw new AttestationError('image', 'The OS image has no metadata.json');
  return listed;
}

/** What is not listed was not hashed, so it must not be there. */
async function removeUnlisted(directory: string, listed: ReadonlySet<string>): Promise<void> {
  const tops = new Set([...listed].map((name) => name.split('/')[0]!));
  for (const name of await readdir(directory)) {
    if (!tops.has(name)) await rm(join(directory, name), { recursive: true, force: true });
  }
  for (const top of tops) {
    if (listed.has(top)) continue;
    for (const name of await readdir(join(directory, top), { recursive: true, withFileTypes: true })) {
      const path = join(name.parentPath, name.name).slice(directory.length + 1);
      if (name.isFile() && !listed.has(path)) await rm(join(directory, path));
    }
  }
}

/** Digest of a file, in pieces. */
export async function hashFile(path: string, algorithm: 'sha256' | 'sha384'): Promise<Uint8Array> {
  const digest = createHash(algorithm);
  for await (const piece of createReadStream(path)) digest.update(piece as Uint8Array);
  return new Uint8Array(digest.digest());
}

/** The directory name of an image. */
export function imageName(hash: Uint8Array): string {
  return toHex(hash);
}
