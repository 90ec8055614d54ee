import { chmod, lchown, mkdir, open, symlink } from 'node:fs/promises';
import { type ByteSource, CHUNK, chunks, partOf } from '../byte-source.ts';
import { EifError } from '../errors.ts';
import { SECTION_HEADER_BYTES, type Section } from '../format/sections.ts';
import { shown } from './root-tree.ts';

/** What the enclave's init starts. */
export interface UnpackedApplication {
  readonly command: readonly string[];
  /** `NAME=value` each. */
  readonly environment: readonly string[];
}

/** newc: magic, 13 numbers of 8 hex digits (Linux, buffer-format.rst). */
const HEADER = 110;
const MAGIC = '070701';
const TRAILER = 'TRAILER!!!';
const MAX_NAME = 4096;
const MAX_MEMBERS = 400_000;
/** `cmd`, `env` and the target of a link. */
const MAX_TEXT = 1 << 20;
const TYPE_MASK = 0o170000;
const PERMISSIONS = 0o7777;

/**
 * Unpacks the root of the application from the second ramdisk into a folder that is not there yet, so that it can run
 * without an enclave. Whoever made the image chose its names: no member is written through a link or out of the folder.
 * Device nodes and pipes are left out.
 *
 * @throws EifError `malformed`, `unsupported`; errors of the file system
 */
export async function unpackApplication(
  source: ByteSource,
  sections: readonly Section[],
  folder: string,
): Promise<UnpackedApplication> {
  const [, application, ...more] = sections.filter(({ name }) => name === 'ramdisk');
  if (application === undefined || more.length > 0)
    throw new EifError('unsupported', 'This image does not have its application in a second ramdisk', {
      expected: 'two ramdisks, as nitro-cli and dstack-cloud write them',
      found: `${sections.filter(({ name }) => name === 'ramdisk').length} ramdisks`,
    });
  const archive = partOf(source, application.offset + SECTION_HEADER_BYTES, application.size, 'the ramdisk');
  await mkdir(folder, { mode: 0o755 });
  const made = new Map<string, () => Promise<void>>([['', async () => undefined]]);
  const texts = new Map<string, string>();
  for await (const member of members(archive)) {
    const { path } = member;
    if (path === 'cmd' || path === 'env') {
      texts.set(path, await textOf(archive, member));
      continue;
    }
    if (path !== 'rootfs' && !path.startsWith('rootfs/')) continue;
    await write(archive, member, folder, path.slice('rootfs/'.length), made);
  }
  for (const finish of [...made.values()].reverse()) await finish();
  const lines = (name: string): string[] => (texts.get(name) ?? '').split('\n').filter((line) => line !== '');
  if (lines('cmd').length === 0) throw new EifError('malformed', 'The image does not say what it starts');
  return { command: lines('cmd'), environment: lines('env') };
}

interface Member {
  /** Latin-1, without a leading slash. */
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly offset: number;
  readonly size: number;
}

async function* members(archive: ByteSource): AsyncGenerator<Member> {
  const read = windowed(archive);
  let at = 0;
  for (let count = 0; count < MAX_MEMBERS; count++) {
    const header = await read(at, HEADER);
    const text = Buffer.from(header).toString('latin1');
    if (!text.startsWith(MAGIC) || !/^[0-9a-fA-F]{104}$/.test(text.slice(6)))
      throw new EifError('malformed', 'The second ramdisk is no cpio archive in the newc format');
    const field = (index: number): number => Number.parseInt(text.slice(6 + 8 * index, 14 + 8 * index), 16);
    const [mode, uid, gid, size, nameSize] = [field(1), field(2), field(3), field(6), field(11)];
    if (nameSize < 2 || nameSize > MAX_NAME)
      throw new EifError('malformed', 'A name in the ramdisk is too long', {
        expected: `at most ${MAX_NAME} bytes`,
        found: `${nameSize} bytes`,
      });
    const name = Buffer.from(await read(at + HEADER, nameSize)).toString('latin1');
    if (name.indexOf('\0') !== name.length - 1)
      throw new EifError('malformed', 'A name in the ramdisk has no end');
    const offset = aligned(at + HEADER + nameSize);
    const path = name.slice(0, -1);
    if (path === TRAILER) return;
    yield { path: path.replace(/^\.?\/+/, ''), mode, uid, gid, offset, size };
    at = aligned(offset + size);
  }
  throw new EifError('too-large', 'The ramdisk has too many files', { expected: `at most ${MAX_MEMBERS}` });
}

/** Many short reads out of a few long ones. */
function windowed(source: ByteSource): (offset: number, length: number) => Promise<Uint8Array> {
  let start = 0;
  let window: Uint8Array = new Uint8Array();
  return async (offset, length) => {
    if (offset < start || offset + length > start + window.length) {
      start = offset;
      window = await source.read(offset, Math.max(length, Math.min(CHUNK, source.size - offset)));
    }
    return window.subarray(offset - start, offset - start + length);
  };
}

/** @param made folders that this unpacking made, and what gives them their mode: only there is anything written */
async function write(
  archive: ByteSource,
  member: Member,
  folder: string,
  path: string,
  made: Map<string, () => Promise<void>>,
): Promise<void> {
  const parts = path.split('/');
  if (path === '') return;
  if (parts.some((part) => part === '' || part === '.' || part === '..'))
    throw new EifError('malformed', `${shown(path)} cannot be the name of a file in the image`);
  const parent = parts.slice(0, -1).join('/');
  if (!made.has(parent))
    throw new EifError('malformed', `${shown(path)} does not lie in a folder of the image`, {
      expected: 'each folder before what is in it',
    });
  const target = Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(path, 'latin1')]);
  const type = member.mode & TYPE_MASK;
  try {
    if (type === 0o040000) {
      await mkdir(target, { mode: 0o700 });
      made.set(path, () => chmod(target, member.mode & PERMISSIONS));
    } else if (type === 0o100000) await writeFile(archive, member, target);
    else if (type === 0o120000) await symlink(Buffer.from(await textOf(archive, member), 'latin1'), target);
    else return;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
    throw new EifError('malformed', `${shown(path)} is in the image twice`, { cause });
  }
  if (process.geteuid?.() === 0) await lchown(target, member.uid, member.gid);
  // Of a folder at the end: what may not be written to is still filled.
  if (type === 0o100000) await chmod(target, member.mode & PERMISSIONS);
}

async function writeFile(archive: ByteSource, { offset, size }: Member, target: Buffer): Promise<void> {
  const file = await open(target, 'wx', 0o600);
  try {
    for await (const piece of chunks(archive, offset, size)) await file.writeFile(piece);
  } finally {
    await file.close();
  }
}

async function textOf(archive: ByteSource, { path, offset, size }: Member): Promise<string> {
  if (size > MAX_TEXT)
    throw new EifError('too-large', `${shown(path)} in the ramdisk is too long`, {
      expected: `at most ${MAX_TEXT} bytes`,
      found: `${size} bytes`,
    });
  return Buffer.from(await archive.read(offset, size)).toString('latin1');
}

function aligned(size: number): number {
  return Math.ceil(size / 4) * 4;
}
