import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeGcpDocument, encodeTdxDocument, measureTdxImage } from '@dstack-cloud/attestation';
import { fromHex } from '@dstack-cloud/encoding';
import { bootRegistersOf, checkImage, readImage, writeUki } from '@dstack-cloud/os-image';
import { simulatedImageFiles } from '@dstack-cloud/tee-simulator';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

type Files = Map<string, string | Uint8Array>;
const hash = (name: string, bytes: string | Uint8Array) => createHash(name).update(bytes);
const program = new Uint8Array(4096 + 0x71);
program.set(new TextEncoder().encode('DSTKSTUB'), 4096);

/** The files of an image of this name, as a build makes them, but for the list. */
function filesOf(name: string): Files {
  const { firmware, kernel, initrd, commandLine, directory } = simulatedImageFiles(name);
  const stub = { program, dataStart: 4096, entry: 0x10 };
  const uki = writeUki({ stub, osRelease: new Uint8Array(9), commandLine, initrd, kernel });
  const sha384 = new Uint8Array(hash('sha384', initrd).digest());
  const parts = { firmware, kernel, commandLine, initrd: { bytes: initrd.length, sha384 } };
  const { uki: digest } = bootRegistersOf(uki);
  const files: Files = new Map(directory);
  for (const one of ['sha256sum.txt', 'digest.txt']) files.delete(one);
  const metadata = JSON.parse(String(Buffer.from(directory.get('metadata.json')!))) as object;
  return files
    .set('metadata.json', JSON.stringify({ ...metadata, rootfs: undefined }))
    .set('measurement.tdx.cbor', encodeTdxDocument(measureTdxImage(parts, 2 ** 31)))
    .set('measurement.gcp.cbor', encodeGcpDocument(fromHex(digest)))
    .set('uki.efi', uki)
    .set('auth_hash.txt', `${digest}\n`);
}

let folder: string;
beforeEach(() => {
  folder = join(mkdtempSync(join(tmpdir(), 'image-measure-')), 'image');
  mkdirSync(folder);
});
afterEach(() => rmSync(join(folder, '..'), { recursive: true, force: true }));

/** Writes the files, and a list over those that decide. */
async function check(files: Files, unlisted: readonly string[] = []): Promise<void> {
  const left = ['uki.efi', 'auth_hash.txt', ...unlisted];
  const listed = [...files].filter(([name]) => !left.includes(name));
  const lines = listed.map(([name, bytes]) => `${hash('sha256', bytes).digest('hex')}  ${name}\n`);
  for (const [name, bytes] of files) writeFileSync(join(folder, name), bytes);
  writeFileSync(join(folder, 'sha256sum.txt'), lines.join(''));
  await checkImage(await readImage(folder));
}

describe('the hash of an image', () => {
  const honest = filesOf('honest');
  const other = filesOf('other');
  const described = (change: object) =>
    JSON.stringify({ ...JSON.parse(String(honest.get('metadata.json'))), ...change });

  it('stands for its files', async () => {
    await check(honest);
  });

  it.each<[string, Files, RegExp]>([
    ...['measurement.tdx.cbor', 'measurement.gcp.cbor', 'auth_hash.txt', 'uki.efi', 'bzImage', 'ovmf.fd'].map(
      (name): [string, Files, RegExp] => [
        `a list over ${name} of another system`,
        new Map([...honest, [name, other.get(name)!]]),
        /another|other files|not the file|cannot be measured/,
      ],
    ),
    [
      'a kernel image of other parts that its document names',
      new Map([
        ...honest,
        ...['uki.efi', 'auth_hash.txt', 'measurement.gcp.cbor'].map((one) => [one, other.get(one)!] as const),
      ]),
      /uki\.efi has another kernel/,
    ],
    [
      'a command line that was not measured',
      new Map([...honest, ['metadata.json', described({ cmdline: 'init=/bin/sh' })]]),
      /measurement\.tdx\.cbor is that of other files/,
    ],
    [
      'a development image that calls itself production',
      new Map([...honest, ['metadata.json', described({ cmdline: 'a dstack.flavour=dev', is_dev: false })]]),
      /"is_dev": false/,
    ],
    [
      'a document of a kernel image that is not there',
      new Map([...honest].filter(([name]) => name !== 'uki.efi')),
      /uki\.efi is missing/,
    ],
  ])('does not stand for %s', async (_, files, why) => {
    await expect(check(files)).rejects.toMatchObject({
      code: 'not-an-image',
      message: expect.stringMatching(why),
    });
  });

  it.each(['bzImage', 'initramfs.cpio.gz', 'ovmf.fd', 'metadata.json'])(
    'needs %s on the list',
    async (name) => {
      await expect(check(honest, [name])).rejects.toThrow(`sha256sum.txt does not list ${name}`);
    },
  );

  it.each([
    ['a pipe', (path: string) => execFileSync('mkfifo', [path])],
    ['a link to something without an end', (path: string) => symlinkSync('/dev/zero', path)],
  ])('does not wait for %s', async (_, make) => {
    for (const name of ['measurement.tdx.cbor', 'uki.efi']) {
      await check(honest);
      rmSync(join(folder, name));
      make(join(folder, name));
      await expect(checkImage(await readImage(folder))).rejects.toThrow('is not a regular file');
      rmSync(join(folder, name));
    }
  });
});
