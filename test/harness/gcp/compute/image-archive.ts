import { createReadStream } from 'node:fs';
import { createGunzip } from 'node:zlib';
import { OperationError } from './operations.ts';

const GIB = 1024 ** 3;

/** What an image's archive says of itself: its first member is `disk.raw`, of whole GiB. The rest is not read. */
export async function readDiskArchive(file: string): Promise<{ size: number }> {
  const bad = (why: string): OperationError =>
    new OperationError('INVALID_IMAGE', `The tar archive is not a valid image: ${why}`);
  const head = await startOfArchive(file, 512).catch((error: Error) => {
    throw bad(error.message);
  });
  if (head.length < 512) throw bad('it has no member');
  const name = head.toString('latin1', 0, 100).replace(/\0.*$/s, '');
  if (name !== 'disk.raw') throw bad(`it begins with ${name}`);
  if (head.toString('latin1', 257, 265) !== 'ustar  \0') throw bad('it is no old GNU archive');
  const size = tarNumber(head.subarray(124, 136));
  if (size === 0 || size % GIB !== 0) throw bad(`disk.raw has ${size} bytes, no whole GiB`);
  return { size };
}

/** The first bytes of the disk in an archive. */
export async function startOfDisk(file: string, length: number): Promise<Buffer> {
  return (await startOfArchive(file, 512 + length)).subarray(512);
}

async function startOfArchive(file: string, length: number): Promise<Buffer> {
  const source = createReadStream(file);
  const data = createGunzip();
  source.on('error', (error) => data.destroy(error)).pipe(data);
  const parts: Buffer[] = [];
  let got = 0;
  for await (const chunk of data as AsyncIterable<Buffer>) {
    parts.push(chunk);
    got += chunk.length;
    if (got >= length) break;
  }
  source.destroy();
  return Buffer.concat(parts).subarray(0, length);
}

/** Octal text, or base 256 for sizes that it cannot hold. */
function tarNumber(field: Buffer): number {
  if ((field[0]! & 0x80) === 0) return Number.parseInt(field.toString('latin1').replace(/\0.*$/s, ''), 8);
  return Number(BigInt(`0x${field.subarray(4).toString('hex')}`));
}
