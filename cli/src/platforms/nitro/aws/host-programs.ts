import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { gzipSync } from 'node:zlib';
import { collectBytes } from '@dstack-cloud/runtime';
import { nitroHostDirectory } from '@dstack-cloud/vmm';
import { pack } from 'tar-stream';
import { CliError } from '../../../errors.ts';
import type { HostFile } from './bucket.ts';

const MAX_BYTES = 64 * 2 ** 20;

/** The programs that a parent instance gets, in one archive; the same programs give the same bytes. */
export async function hostPrograms(): Promise<HostFile> {
  const folder = nitroHostDirectory();
  const archive = pack();
  const bytes = collectBytes(
    archive as AsyncIterable<Buffer>,
    MAX_BYTES,
    () => new Error('The programs of the host are too large'),
  );
  for (const path of await files(folder)) {
    const name = relative(folder, path);
    await new Promise<void>((resolve, reject) => {
      const done = (error?: Error | null): void => (error ? reject(error) : resolve());
      void readFile(path).then(
        (content) => archive.entry({ name, mode: 0o644, mtime: new Date(0) }, content, done),
        reject,
      );
    });
  }
  archive.finalize();
  const content = gzipSync(await bytes);
  const sha256 = createHash('sha256').update(content).digest('hex');
  return { name: 'programs.tar.gz', size: content.length, sha256, content };
}

/** What runs; what the build notes of it stays here, and so do links. */
async function files(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch((cause: unknown) => {
    throw new CliError('file_missing', `The programs for parent instances are not in ${folder}`, {
      cause,
      hint: 'Run npm run build in the checkout first',
    });
  });
  return entries
    .filter((one) => one.isFile() && !one.name.startsWith('.'))
    .map((one) => join(one.parentPath, one.name))
    .sort();
}
