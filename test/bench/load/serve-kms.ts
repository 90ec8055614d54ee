/**
 * A loaded KMS of one checkout, in a process of its own: `serve-kms.ts CHECKOUT FILE` starts it with that checkout's
 * code, writes the loads and the process id of the KMS to the file and the word `ready` to standard output, and ends when
 * standard input does.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { LoadedKms } from './loaded-kms.ts';

const [checkout = '', file = ''] = process.argv.slice(2);
const urlOf = (path: string): string => pathToFileURL(join(checkout, 'test', path)).href;
const { startLoadedKms } = (await import(urlOf('bench/load/loaded-kms.ts'))) as {
  startLoadedKms(): Promise<LoadedKms>;
};
const { processesIn } = (await import(urlOf('harness/run-command.ts'))) as {
  processesIn(directory: string): string[];
};
const kms = await startLoadedKms();
try {
  const command = processesIn(kms.stack.space.directory).find((line) => line.includes('dstack-kms'));
  const { fresh, kept } = kms;
  writeFileSync(file, JSON.stringify({ pid: Number(command?.split(' ')[0]), fresh, kept }), { mode: 0o600 });
  console.log('ready');
  for await (const _ of process.stdin) {
    // Nothing is said but the end.
  }
} finally {
  await kms.stop();
}
process.exit(0);
