import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { type ArchiveEntry, tarOf } from '@dstack-cloud/test/tar-of';

const sha256 = (data: string | Uint8Array): string => createHash('sha256').update(data).digest('hex');

/** A small OS image: its archive (.tar.gz) and its hash in hex. */
export function imageArchive(
  files: Readonly<Record<string, string | Uint8Array>>,
  more: readonly ArchiveEntry[] = [],
): { archive: Uint8Array; hash: string; bytes: Uint8Array } {
  const list = Object.entries(files)
    .map(([name, data]) => `${sha256(data)}  ${name}\n`)
    .join('');
  const tar = tarOf([
    { name: './', type: '5' },
    ...Object.entries(files).map(([name, data]) => ({ name: `./${name}`, data })),
    { name: './sha256sum.txt', data: list },
    ...more,
  ]);
  const hash = sha256(list);
  return { archive: new Uint8Array(gzipSync(tar)), hash, bytes: Uint8Array.from(Buffer.from(hash, 'hex')) };
}
