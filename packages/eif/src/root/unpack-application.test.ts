import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { utf8 } from '@dstack-cloud/encoding';
import { cpioHeader, cpioTrailer } from '@dstack-cloud/os-image/cpio';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openBootFiles } from '../build/boot-files.ts';
import { buildEif } from '../build/build-eif.ts';
import { bytesSource, openSource } from '../byte-source.ts';
import { EifError } from '../errors.ts';
import { readEif } from '../measure/read-eif.ts';
import { assembleEif, PLAIN } from '../test/assemble-eif.ts';
import { unpackApplication } from './unpack-application.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'unpack-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test('what was built comes back: files, links, modes, command and environment', async () => {
  const root = join(directory, 'root');
  mkdirSync(join(root, 'app'), { recursive: true });
  writeFileSync(join(root, 'app/run'), '#!/bin/sh\n', { mode: 0o755 });
  mkdirSync(join(root, 'closed'), { mode: 0o555 });
  symlinkSync('/app/run', join(root, 'start'));
  mkdirSync(join(directory, 'blobs'));
  for (const name of ['bzImage', 'cmdline', 'init', 'nsm.ko'])
    writeFileSync(join(directory, 'blobs', name), `${name}\n`);
  const boot = await openBootFiles({ folder: join(directory, 'blobs') });
  const output = join(directory, 'app.eif');
  await buildEif({
    root: { kind: 'folder', path: root },
    boot,
    command: ['/start', 'an argument'],
    now: new Date(0),
    buildTime: new Date(0),
    tool: { name: 'test', version: '1' },
    output,
    warn: () => undefined,
  });
  await boot.close();
  const source = await openSource(output);
  const { sections } = await readEif(source);
  const target = join(directory, 'ünpacked');
  expect(await unpackApplication(source, sections, target)).toEqual({
    command: ['/start', 'an argument'],
    environment: [],
  });
  await source.close();
  expect(readFileSync(join(target, 'app/run'), 'utf8')).toBe('#!/bin/sh\n');
  expect(lstatSync(join(target, 'app/run')).mode & 0o7777).toBe(0o755);
  expect(lstatSync(join(target, 'closed')).mode & 0o7777).toBe(0o555);
  expect(readlinkSync(join(target, 'start'))).toBe('/app/run');
});

type Entry = readonly [name: string, mode: number, data?: string];
const CMD: Entry = ['cmd', 0o100644, '/bin/sh\n'];
const ROOT: Entry = ['rootfs', 0o040755];

async function unpack(entries: readonly Entry[]): Promise<unknown> {
  const parts: Uint8Array[] = [];
  for (const [inode, [name, mode, data = '']] of entries.entries()) {
    parts.push(cpioHeader({ inode, mode, uid: 0, gid: 0, size: data.length, name: utf8(name) }), utf8(data));
    parts.push(new Uint8Array((4 - (data.length % 4)) % 4));
  }
  const ramdisk = new Uint8Array(Buffer.concat([...parts, cpioTrailer()]));
  const image = assembleEif([...PLAIN.slice(0, 3), { type: 3, payload: ramdisk }]);
  const source = bytesSource('image', image);
  const { sections } = await readEif(source);
  return await unpackApplication(source, sections, join(directory, 'out'));
}

test.each<[string, readonly Entry[]]>([
  ['a way up', [ROOT, ['rootfs/../escaped', 0o100644, 'x'], CMD]],
  ['a link as folder', [ROOT, ['rootfs/a', 0o120777, '..'], ['rootfs/a/escaped', 0o100644, 'x'], CMD]],
  ['a folder that never came', [ROOT, ['rootfs/a/b', 0o100644, 'x'], CMD]],
  [
    'a file through a link of its name',
    [ROOT, ['rootfs/a', 0o120777, '../escaped'], ['rootfs/a', 0o100644, 'x'], CMD],
  ],
  ['an empty part', [ROOT, ['rootfs//escaped', 0o100644, 'x'], CMD]],
  ['no command', [ROOT]],
])('%s is refused, and nothing is written elsewhere', async (_, entries) => {
  await expect(unpack(entries)).rejects.toThrow(EifError);
  expect(existsSync(join(directory, 'escaped'))).toBe(false);
});

test('a ramdisk that is no archive, and an image of one ramdisk, are refused', async () => {
  for (const sections of [PLAIN, PLAIN.slice(0, 3)]) {
    const source = bytesSource('image', assembleEif(sections));
    const eif = await readEif(source);
    await expect(
      unpackApplication(source, eif.sections, join(directory, `o${sections.length}`)),
    ).rejects.toThrow(EifError);
  }
});

test('members that are no files, folders or links are left out', async () => {
  await unpack([ROOT, ['rootfs/dev', 0o040755], ['rootfs/dev/sda', 0o060600], CMD]);
  expect(existsSync(join(directory, 'out/dev/sda'))).toBe(false);
});
