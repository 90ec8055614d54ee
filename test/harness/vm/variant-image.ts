/** Another OS image with the same files: one more word on its measured command line, which nothing reads. */
import { createHash } from 'node:crypto';
import { linkSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeTdxDocument, measureTdxImage } from '@dstack-cloud/attestation';

/** Memory for which the kernel's place in memory is the same as for every larger machine, bytes. */
const MEASURED_MEMORY = 2 ** 31;
const LISTED = [
  'ovmf.fd',
  'bzImage',
  'initramfs.cpio.gz',
  'metadata.json',
  'measurement.gcp.cbor',
  'measurement.tdx.cbor',
];

/** Writes the image `output` after that of `folder`; @returns its hash */
export function variantImage(folder: string, output: string, word: string): string {
  mkdirSync(output);
  const read = (name: string): Uint8Array => new Uint8Array(readFileSync(join(folder, name)));
  const metadata = JSON.parse(readFileSync(join(folder, 'metadata.json'), 'utf8')) as { cmdline: string };
  const commandLine = `${metadata.cmdline} ${word}`;
  const initrd = read('initramfs.cpio.gz');
  const hash = (name: string, bytes: Uint8Array): Uint8Array =>
    new Uint8Array(createHash(name).update(bytes).digest());
  const measured = measureTdxImage(
    {
      firmware: read('ovmf.fd'),
      kernel: read('bzImage'),
      commandLine,
      initrd: { bytes: initrd.length, sha384: hash('sha384', initrd) },
    },
    MEASURED_MEMORY,
  );
  const changed: Record<string, string | Uint8Array> = {
    'metadata.json': `${JSON.stringify({ ...metadata, cmdline: commandLine }, null, 2)}\n`,
    'measurement.tdx.cbor': encodeTdxDocument(measured),
  };
  for (const name of readdirSync(folder))
    if (name in changed) writeFileSync(join(output, name), changed[name] ?? '');
    else if (!/sum\.txt$|digest\.txt$/.test(name)) linkSync(join(folder, name), join(output, name));
  const lines = LISTED.map(
    (name) =>
      `${createHash('sha256')
        .update(readFileSync(join(output, name)))
        .digest('hex')}  ${name}\n`,
  ).join('');
  const digest = createHash('sha256').update(lines).digest('hex');
  writeFileSync(join(output, 'sha256sum.txt'), lines);
  writeFileSync(join(output, 'digest.txt'), `${digest}\n`);
  return digest;
}
