import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { lastWords } from '../last-words.ts';
import type { LogChunk, LogQuery } from './containers.ts';

const MAX_SAID = 2000;

/** Reads the journal of a machine of its own, by `journalctl`; `program` stands for it in tests. */
export async function* readJournal(
  query: LogQuery,
  signal: AbortSignal,
  program = 'journalctl',
): AsyncGenerator<LogChunk> {
  const child = spawn(program, journalArguments(query), { stdio: ['ignore', 'pipe', 'pipe'] });
  const end = () => child.kill('SIGKILL');
  if (signal.aborted) end();
  signal.addEventListener('abort', end, { once: true });
  let said = '';
  child.stderr.on('data', (bytes: Buffer) => {
    said = `${said}${bytes.toString()}`.slice(-MAX_SAID);
  });
  const closed = once(child, 'close');
  // It fails beside what is read below, and is looked at after that.
  closed.catch(() => undefined);
  try {
    for await (const bytes of child.stdout) yield { channel: 'stdout', bytes: bytes as Uint8Array };
    const [status] = await closed;
    if (status !== 0 && !signal.aborted)
      throw new Error(`No journal: ${lastWords(said) || `journalctl ended with ${status}`}`);
  } finally {
    signal.removeEventListener('abort', end);
    end();
  }
}

/** Times are those of the machine, in UTC, on each line. */
function journalArguments({ since, until, follow, tail }: LogQuery): readonly string[] {
  return [
    ...['--no-pager', '--quiet', '--utc', '--output=short-iso', `--lines=${tail}`],
    ...(since === 0 ? [] : [`--since=@${since}`]),
    ...(until === 0 ? [] : [`--until=@${until}`]),
    ...(follow ? ['--follow'] : []),
  ];
}
