import { createReadStream } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { isZero } from '@dstack-cloud/encoding';
import { extract } from 'tar-stream';
import { CliError, messageOf } from '../errors.ts';

const MAX_FILES = 64;
const MAX_BYTES = 64 * 1024 ** 3;
/** A hole in a file needs whole pages. */
const PAGE = 4096;
const FILE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/**
 * Unpacks an archive of an OS image into a folder that is made for it: one directory of plain files, whatever it is called
 * inside. Links, devices and names that lead elsewhere are refused; zeros become holes.
 *
 * @returns names of the files
 */
export async function unpackImage(archive: string, folder: string): Promise<string[]> {
  await mkdir(folder, { mode: 0o755 });
  const refuse = (why: string): CliError =>
    new CliError('refused', `The archive is no OS image: ${why}`, {
      expected: 'one directory of plain files',
      hint: 'Check where it comes from',
    });
  const files: string[] = [];
  const reader = extract();
  let total = 0;
  const source = pipeline(createReadStream(archive), createGunzip(), reader);
  // Awaited at the end; until then what the loop throws counts.
  source.catch(() => undefined);
  try {
    for await (const member of reader) {
      const { name, type } = member.header;
      const parts = name.split('/').filter((part) => part !== '' && part !== '.');
      if (type === 'directory' && parts.length <= 1) {
        member.resume();
        continue;
      }
      const file = parts.at(-1) ?? '';
      if (type !== 'file') throw refuse(`${JSON.stringify(name)} is a ${type}`);
      if (parts.length > 2 || name.startsWith('/') || parts.includes('..') || !FILE.test(file))
        throw refuse(`it has the name ${JSON.stringify(name)}`);
      if (files.includes(file)) throw refuse(`it has ${file} twice`);
      if (files.length >= MAX_FILES) throw refuse(`it has more than ${MAX_FILES} files`);
      files.push(file);
      total += await writeSparse(
        join(folder, file),
        member as AsyncIterable<Uint8Array>,
        MAX_BYTES - total,
        refuse,
      );
    }
    await source;
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw refuse(messageOf(error));
  }
  return files;
}

async function writeSparse(
  path: string,
  content: AsyncIterable<Uint8Array>,
  limit: number,
  refuse: (why: string) => CliError,
): Promise<number> {
  const file = await open(path, 'wx', 0o644);
  let position = 0;
  try {
    for await (const chunk of content) {
      if (position + chunk.length > limit) throw refuse('its files are larger than 64 GiB');
      if (chunk.length < PAGE || !isZero(chunk)) await file.write(chunk, 0, chunk.length, position);
      position += chunk.length;
    }
    await file.truncate(position);
    await file.sync();
    return position;
  } finally {
    await file.close();
  }
}
