import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { nativeCalls } from '../native/koffi.ts';
import { directoryFiles } from './directory-files.ts';
import { openTsmFiles } from './open-files.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tsm-'));
  writeFileSync(join(directory, 'inblob'), '');
});
afterEach(() => rmSync(directory, { recursive: true }));

describe('a directory', () => {
  test('is read and written whole', async () => {
    const files = directoryFiles(directory);
    await files.write('inblob', Uint8Array.of(1, 2, 3));
    expect(await files.read('inblob', 3)).toEqual(Uint8Array.of(1, 2, 3));
  });

  test('refuses more than the caller allows', async () => {
    writeFileSync(join(directory, 'outblob'), new Uint8Array(101));
    await expect(directoryFiles(directory).read('outblob', 100)).rejects.toMatchObject({ errno: 'EFBIG' });
  });

  test('names what is missing', async () => {
    await expect(directoryFiles(directory).read('outblob', 1)).rejects.toMatchObject({ errno: 'ENOENT' });
    await expect(directoryFiles(join(directory, 'gone')).exclusive(async () => {})).rejects.toMatchObject({
      errno: 'ENOENT',
    });
  });

  test('a write that is short, or refused when the file is closed, is an error', async () => {
    const wrapped = (changes: object) => ({
      open: async (path: string, flags: string) => {
        const handle = await open(path, flags);
        return {
          fd: handle.fd,
          read: handle.read.bind(handle),
          write: handle.write.bind(handle),
          close: () => handle.close(),
          ...changes,
        } as never;
      },
    });
    const short = directoryFiles(directory, wrapped({ write: async () => ({ bytesWritten: 63 }) }));
    await expect(short.write('inblob', new Uint8Array(64))).rejects.toMatchObject({
      errno: 'EIO',
      message: 'inblob took 63 of 64 bytes',
    });
    const late = directoryFiles(
      directory,
      wrapped({ close: async () => Promise.reject(Object.assign(new Error('late'), { code: 'EBUSY' })) }),
    );
    await expect(late.write('inblob', new Uint8Array(64))).rejects.toMatchObject({ errno: 'EBUSY' });
  });

  test('errors of the body pass through the lock unchanged', async () => {
    const error = new TypeError('of the body');
    await expect(directoryFiles(directory).exclusive(() => Promise.reject(error))).rejects.toBe(error);
  });

  test('is used by one at a time', async (context) => {
    if (!(await nativeCalls())) context.skip('koffi is not installed');
    const order: string[] = [];
    const use = (name: string) =>
      directoryFiles(directory).exclusive(async () => {
        order.push(`${name} in`);
        await new Promise((resolve) => setTimeout(resolve, 20));
        order.push(`${name} out`);
      });
    await Promise.all([use('a'), use('b'), use('c')]);
    for (let i = 0; i < order.length; i += 2) expect(order[i]!.slice(0, 1)).toBe(order[i + 1]!.slice(0, 1));
  });
});

describe('the folder of entries', () => {
  test('gets an entry of ours, and a folder that stays empty is refused', async () => {
    await expect(openTsmFiles(directory, 100)).rejects.toMatchObject({ code: 'device' });
    writeFileSync(join(directory, 'com.intel.dcap', 'provider'), 'tdx_guest\n');
    const files = await openTsmFiles(directory, 100);
    await files.write('inblob', Uint8Array.of(7));
    expect(readFileSync(join(directory, 'com.intel.dcap', 'inblob'))).toEqual(Buffer.of(7));
  });

  test('that cannot be written is refused', async () => {
    await expect(openTsmFiles(join(directory, 'inblob'), 100)).rejects.toMatchObject({ code: 'device' });
  });
});
