import { join } from 'node:path';
import { encodeGcpDocument, encodeTdxDocument, measureTdxImage, readUki } from '@dstack-cloud/attestation';
import { equalBytes, fromHex, utf8, utf8Text } from '@dstack-cloud/encoding';
import { MAX_KERNEL_IMAGE, ukiRegisters } from './boot-registers.ts';
import { MEASURED_MEMORY } from './build/describe-image.ts';
import { hashes } from './build/hashes.ts';
import { checkDisk } from './check-disk.ts';
import { checkRoot } from './check-root.ts';
import { OsImageError } from './errors.ts';
import { openRegular, readRegular } from './open-regular.ts';
import { changedFiles, type OsImageFolder } from './read-image.ts';

const GCP_DOCUMENT = 'measurement.gcp.cbor';
const TDX_DOCUMENT = 'measurement.tdx.cbor';
const MAX_PART = 512 * 1024 * 1024;
const MAX_DOCUMENT = 64 * 1024;
const MAX_HASH = 1024;

/**
 * Checks that the hash of an image stands for the files in its folder. Verifiers believe what the list of files says that
 * machines measure: so every file that decides has to be on the list, and the two documents of measurements must be those
 * of the very files beside them, not those of another system.
 *
 * @throws OsImageError `not-an-image`
 */
export async function checkImage(image: OsImageFolder): Promise<void> {
  const { folder, kernel, initrd, firmware, listed } = image;
  const decisive = [kernel, initrd, 'metadata.json', ...(firmware === undefined ? [] : [firmware])];
  const unlisted = decisive.find((name) => !listed.has(name));
  if (unlisted !== undefined) throw refused(folder, `sha256sum.txt does not list ${unlisted}`);
  const [changed] = await changedFiles(image);
  if (changed !== undefined)
    throw refused(folder, `${changed.name} is not the file that sha256sum.txt lists`, {
      expected: changed.expected,
      found: changed.found ?? 'no such file',
    });
  const parts = {
    kernel: await part(folder, kernel),
    initrd: await part(folder, initrd),
    commandLine: image.commandLine,
  };
  if (listed.has(TDX_DOCUMENT)) await checkTdxDocument(image, parts);
  await checkKernelImage(image, parts);
  await checkRoot(image);
}

interface Parts {
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array;
  readonly commandLine: string;
}

async function checkTdxDocument({ folder, firmware }: OsImageFolder, parts: Parts): Promise<void> {
  if (firmware === undefined)
    throw refused(folder, `it has ${TDX_DOCUMENT}, and metadata.json names no firmware`);
  const { kernel, initrd, commandLine } = parts;
  const sha384 = hashes.hash('sha384', initrd);
  let document: Uint8Array;
  try {
    const files = { firmware: await part(folder, firmware), kernel, commandLine };
    const inMemory = { ...files, initrd: { bytes: initrd.length, sha384 } };
    document = encodeTdxDocument(measureTdxImage(inMemory, MEASURED_MEMORY, hashes));
  } catch (cause) {
    throw refused(folder, `a TD of its files cannot be measured: ${(cause as Error).message}`, { cause });
  }
  if (
    !equalBytes(document, (await readRegular(join(folder, TDX_DOCUMENT), MAX_DOCUMENT)) ?? document.slice(1))
  )
    throw refused(
      folder,
      `${TDX_DOCUMENT} is that of other files than firmware, kernel, initramfs and command line beside it`,
    );
}

/** The unified kernel image: the parts are those beside it, and it is the one that its document and `auth_hash.txt` name. */
async function checkKernelImage({ folder, listed }: OsImageFolder, parts: Parts): Promise<void> {
  const file = await readRegular(join(folder, 'uki.efi'), MAX_KERNEL_IMAGE);
  const named = await readRegular(join(folder, 'auth_hash.txt'), MAX_HASH);
  const disk = await openRegular(join(folder, 'disk.raw'));
  await disk?.close();
  if (file === undefined) {
    const needs = [
      ...(listed.has(GCP_DOCUMENT) ? [GCP_DOCUMENT] : []),
      ...(named === undefined ? [] : ['auth_hash.txt']),
      ...(disk === undefined ? [] : ['disk.raw']),
    ];
    if (needs.length === 0) return;
    throw refused(folder, `it has ${needs.join(' and ')}, and uki.efi is missing`);
  }
  const { uki } = ukiRegisters(join(folder, 'uki.efi'), file);
  if (named !== undefined && utf8Text(named).trim() !== uki)
    throw refused(folder, 'uki.efi is not the file that auth_hash.txt names', {
      expected: utf8Text(named).trim(),
      found: uki,
    });
  if (listed.has(GCP_DOCUMENT)) {
    const document = await readRegular(join(folder, GCP_DOCUMENT), MAX_DOCUMENT);
    if (document === undefined || !equalBytes(document, encodeGcpDocument(fromHex(uki))))
      throw refused(folder, `${GCP_DOCUMENT} is that of another kernel image than uki.efi`);
  }
  const inside = readUki(file);
  const pairs = [
    ['kernel', inside.kernel, parts.kernel],
    ['initramfs', inside.initrd, parts.initrd],
    ['command line', withoutEnd(inside.commandLine), utf8(parts.commandLine.trimEnd())],
  ] as const;
  for (const [what, one, other] of pairs)
    if (!equalBytes(one, other)) throw refused(folder, `uki.efi has another ${what} than the image`);
  if (disk !== undefined) await checkDisk({ folder });
}

/** A command line as systemd's tools write it ends with a new line and a zero. */
function withoutEnd(text: Uint8Array): Uint8Array {
  let end = text.length;
  while (end > 0 && [0, 10, 32].includes(text[end - 1]!)) end--;
  return text.subarray(0, end);
}

async function part(folder: string, name: string): Promise<Uint8Array> {
  const bytes = await readRegular(join(folder, name), MAX_PART);
  if (bytes === undefined) throw refused(folder, `${name} is missing`);
  return bytes;
}

function refused(
  folder: string,
  why: string,
  details: { cause?: unknown; expected?: string; found?: string } = {},
): OsImageError {
  const text = `The hash of the image in ${folder} does not stand for its files: ${why}`;
  return new OsImageError('not-an-image', `${text}`, details);
}
