import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildContracts } from '@dstack-cloud/contracts';
import { type MadePackage, makeContracts, makePackage } from './make-package.ts';
import { RELEASE_PACKAGES } from './packages.ts';

/** A file of a release. */
export interface ReleaseFile {
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** Makes the npm tarballs, a bill of materials for each, and SHA256SUMS. The declarations have to be built. */
export async function makeRelease(repository: string, output: string): Promise<ReleaseFile[]> {
  const { version } = JSON.parse(await readFile(join(repository, 'package.json'), 'utf8')) as {
    version: string;
  };
  const made: MadePackage[] = [];
  for (const wanted of RELEASE_PACKAGES) made.push(await makePackage(repository, wanted, version));
  made.push(await makeContracts(await artifacts(), repository, version));
  await rm(output, { recursive: true, force: true });
  await mkdir(output, { recursive: true });
  const files: ReleaseFile[] = [];
  const write = async (file: string, content: Uint8Array): Promise<void> => {
    await writeFile(join(output, file), content);
    const sha256 = createHash('sha256').update(content).digest('hex');
    files.push({ file, bytes: content.length, sha256 });
  };
  for (const { stem, tarball, billOfMaterials } of made) {
    await write(`${stem}.tgz`, tarball);
    await write(`${stem}.cdx.json`, new TextEncoder().encode(billOfMaterials));
  }
  const sums = files.map(({ file, sha256 }) => `${sha256}  ${file}\n`).join('');
  await writeFile(join(output, 'SHA256SUMS'), sums);
  return files;
}

async function artifacts(): Promise<Map<string, string>> {
  const { directory } = await buildContracts();
  const names = (await readdir(directory)).filter((name) => /^[A-Z]\w*\.json$/.test(name)).sort();
  const texts = await Promise.all(names.map((name) => readFile(join(directory, name), 'utf8')));
  return new Map(names.map((name, index) => [name, texts[index]!]));
}
