import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeTdxDocument, measureTdxImage } from '@dstack-cloud/attestation';
import { toHex, utf8 } from '@dstack-cloud/encoding';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { sha256, sha384 } from './hash.ts';
import { simulatedImageBoot } from './image-boot.ts';
import { simulatedImageFiles } from './image-files.ts';
import { imageFolderBoot } from './image-folder-boot.ts';

const MEMORY = 2 * 1024 ** 3;
const files = simulatedImageFiles('folder-test');
const machine = { cpuCount: 2, memorySize: MEMORY, qemuVersion: '9.1.0' };
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'image-'));
  const { firmware, kernel, commandLine } = files;
  const initrd = { bytes: files.initrd.length, sha384: sha384(files.initrd) };
  const document = encodeTdxDocument(measureTdxImage({ firmware, kernel, commandLine, initrd }, MEMORY));
  const all = new Map([...files.directory, ['measurement.tdx.cbor', document] as const]);
  all.delete('sha256sum.txt');
  const list = [...all].map(([name, bytes]) => `${toHex(sha256(bytes))}  ${name}\n`).join('');
  for (const [name, bytes] of [...all, ['sha256sum.txt', utf8(list)] as const])
    writeFileSync(join(folder, name), bytes);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

it.each(['9.1.0', '8.2.0'])('measures the files as QEMU %s boots them', async (qemuVersion) => {
  const boot = await imageFolderBoot({ folder, ...machine, qemuVersion });
  const expected = simulatedImageBoot(files, { cpuCount: 2, memorySize: MEMORY, qemuVersion });
  expect(boot.mrTd).toEqual(expected.mrTd);
  expect(boot.rtmrs).toEqual(expected.rtmrs);
});

it.each(['ovmf.fd', 'bzImage', 'initramfs.cpio.gz'])('has other registers with another %s', async (name) => {
  const before = await imageFolderBoot({ folder, ...machine });
  const bytes = files.directory.get(name)!.slice();
  bytes[name === 'ovmf.fd' ? 0x2000 : bytes.length - 1]! ^= 1;
  writeFileSync(join(folder, name), bytes);
  const after = await imageFolderBoot({ folder, ...machine });
  expect([after.mrTd, ...after.rtmrs]).not.toEqual([before.mrTd, ...before.rtmrs]);
  // What the image says of itself is handed on as it is: whoever verifies finds the difference.
  expect(after.osImageHash).toEqual(before.osImageHash);
});

it('names the file that an image lacks', async () => {
  rmSync(join(folder, 'bzImage'));
  await expect(imageFolderBoot({ folder, ...machine })).rejects.toThrow(/has no bzImage/);
});
