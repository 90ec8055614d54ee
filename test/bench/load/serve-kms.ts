/**
 * A loaded KMS of one checkout, in a process of its own: `serve-kms.ts CHECKOUT FILE` starts it with that checkout's
 * code, writes the loads to the file and the word `ready` to standard output, and ends when standard input does.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { LoadedKms } from './loaded-kms.ts';

const [checkout = '', file = ''] = process.argv.slice(2);
const module = pathToFileURL(join(checkout, 'test/bench/load/loaded-kms.ts')).href;
const { startLoadedKms } = (await import(module)) as { startLoadedKms(): Promise<LoadedKms> };
const kms = await startLoadedKms();
try {
  writeFileSync(file, JSON.stringify({ fresh: kms.fresh, kept: kms.kept }), { mode: 0o600 });
  console.log('ready');
  for await (const _ of process.stdin) {
    // Nothing is said but the end.
  }
} finally {
  await kms.stop();
}
process.exit(0);
