import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { MAX_FIRMWARE_BYTES, type TdxImageParts } from '@dstack-cloud/attestation';
import { EncodingError, utf8Text } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { KmsError } from '../errors.ts';

const CHECKSUM_FILE = 'sha256sum.txt';
const METADATA_FILE = 'metadata.json';

const MAX_TEXT_BYTES = 64 * 1024;
const MAX_KERNEL_BYTES = 256 * 1024 * 1024;
const LINE = /^([0-9a-fA-F]{64}) [ *]([A-Za-z0-9_][A-Za-z0-9._+-]{0,127})$/;

const fileName = z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}$/);
/** Other members are for the VMM (docs/protocol/images.md section 1.1). */
const metadataSchema = z.object({ bios: fileName, kernel: fileName, initrd: fileName, cmdline: z.string() });

/**
 * Makes a directory with unpacked files an image: its checksum file has the hash, each listed file is there and right,
 * all else is removed (docs/protocol/images.md section 2).
 * @param hash os_image_hash in lower-case hex
 * @throws KmsError `image-invalid`
 */
export async function checkImageDirectory(directory: string, hash: string): Promise<void> {
  const bytes = await readText(directory, CHECKSUM_FILE);
  if (createHash('sha256').update(bytes).digest('hex') !== hash) {
    throw invalid('os_image_hash does not match sha256sum of the sha256sum.txt');
  }
  const listed = parseChecksums(bytes);
  for (const [name, expected] of listed) {
    if (!(await isFile(join(directory, name)))) throw invalid(`${name} of sha256sum.txt is missing`);
    if ((await fileHash(join(directory, name), 'sha256')) !== expected) {
      throw invalid(`${name} does not have the checksum of sha256sum.txt`);
    }
  }
  if (!listed.has(METADATA_FILE)) throw invalid('metadata.json not found in the checked files');
  const { bios, kernel, initrd } = await readMetadata(directory);
  for (const name of [bios, kernel, initrd]) {
    if (!listed.has(name)) throw invalid(`${name} of metadata.json is not in sha256sum.txt`);
  }
  for (const name of await readdir(directory)) {
    if (name !== CHECKSUM_FILE && !listed.has(name)) {
      await rm(join(directory, name), { recursive: true, force: true });
    }
  }
}

/** What a TD measures of a checked image. @throws KmsError `image-invalid` */
export async function readImageParts(directory: string): Promise<TdxImageParts> {
  const { bios, kernel, initrd, cmdline } = await readMetadata(directory);
  const initrdFile = join(directory, initrd);
  return {
    firmware: await readBounded(directory, bios, MAX_FIRMWARE_BYTES),
    kernel: await readBounded(directory, kernel, MAX_KERNEL_BYTES),
    initrd: {
      bytes: (await lstat(initrdFile)).size,
      sha384: Uint8Array.from(Buffer.from(await fileHash(initrdFile, 'sha384'), 'hex')),
    },
    commandLine: cmdline,
  };
}

/** Whether the cache has something under this name: the last file to appear of an image is its directory. */
export async function isImageDirectory(directory: string): Promise<boolean> {
  return isFile(join(directory, METADATA_FILE));
}

function parseChecksums(bytes: Uint8Array): Map<string, string> {
  const listed = new Map<string, string>();
  for (const line of text(bytes, CHECKSUM_FILE).split('\n')) {
    if (line === '') continue;
    const [, sum, name] = LINE.exec(line) ?? [];
    if (sum === undefined || name === undefined || listed.has(name) || name === CHECKSUM_FILE) {
      throw invalid(`sha256sum.txt has an unusable line: ${JSON.stringify(line.slice(0, 120))}`);
    }
    listed.set(name, sum.toLowerCase());
  }
  return listed;
}

async function readMetadata(directory: string): Promise<z.infer<typeof metadataSchema>> {
  const bytes = await readText(directory, METADATA_FILE);
  let value: unknown;
  try {
    value = JSON.parse(text(bytes, METADATA_FILE));
  } catch (cause) {
    if (cause instanceof KmsError) throw cause;
    throw invalid('metadata.json is no JSON', cause);
  }
  const parsed = metadataSchema.safeParse(value);
  if (!parsed.success) throw invalid('metadata.json does not name bios, kernel, initrd and cmdline');
  return parsed.data;
}

async function readText(directory: string, name: string): Promise<Uint8Array> {
  if (!(await isFile(join(directory, name)))) throw invalid(`${name} not found`);
  return readBounded(directory, name, MAX_TEXT_BYTES);
}

async function readBounded(directory: string, name: string, limit: number): Promise<Uint8Array> {
  const { size } = await lstat(join(directory, name));
  if (size > limit) throw invalid(`${name} is larger than ${limit} bytes`);
  return new Uint8Array(await readFile(join(directory, name)));
}

async function isFile(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined))?.isFile() === true;
}

async function fileHash(path: string, algorithm: 'sha256' | 'sha384'): Promise<string> {
  const hash = createHash(algorithm);
  for await (const part of createReadStream(path, { highWaterMark: 1 << 20 }))
    hash.update(part as Uint8Array);
  return hash.digest('hex');
}

function text(bytes: Uint8Array, name: string): string {
  try {
    return utf8Text(bytes);
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw invalid(`${name} is no UTF-8`, cause);
  }
}

function invalid(message: string, cause?: unknown): KmsError {
  return new KmsError('image-invalid', message, { cause });
}
