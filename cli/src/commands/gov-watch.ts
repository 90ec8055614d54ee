import { resolve } from 'node:path';
import { printable } from '@dstack-cloud/encoding';
import { loadConfig, type Message, type WatcherNote, watchGovernance } from '@dstack-cloud/watcher';
import type { Context } from '../context.ts';
import { EXIT } from '../errors.ts';

/** Problems that are told at once after a change; the same one again after so long. */
const TOLD_EVERY_MS = 60_000;

/** `gov watch [FILE]`: follows the contracts, and tells what happens. */
export async function run(
  context: Context,
  [file = 'watch.toml']: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<number> {
  const config = await loadConfig(resolve(context.directory, file));
  const once = flags['once'] === true;
  let messages = 0;
  const result = await watchGovernance({
    config,
    once,
    signal: context.signal,
    onMessage: (message) => {
      messages += 1;
      context.record(message);
      context.print(lineOf(message));
    },
    onNote: notes(context),
  });
  if (once) {
    const { block, head, events, waiting } = result;
    // Always there, so that a pass with nothing to tell is told apart from none.
    context.record({ pass: { block: block ?? null, head: head ?? null, events, messages, waiting } });
    context.info(`Read up to block ${block ?? '-'}: ${events} new events, ${waiting} messages wait`);
  }
  return EXIT.ok;
}

function lineOf({ time, severity, rule, text, transaction, actor }: Message): string {
  const when = new Date(time * 1_000).toISOString().replace('.000Z', 'Z');
  const by = actor === undefined ? '' : ` (by ${actor}, transaction ${transaction ?? '-'})`;
  return printable(`${when} ${severity.toUpperCase()} ${rule}: ${text}${by}`);
}

function notes({ info, warn, debug }: Context): (note: WatcherNote) => void {
  let [said, at] = ['', Number.NEGATIVE_INFINITY];
  const problem = (text: string): void => {
    const now = performance.now();
    if (text === said && now - at < TOLD_EVERY_MS) return;
    [said, at] = [text, now];
    warn(text);
  };
  return (note) => {
    switch (note.type) {
      case 'started':
        info(note.metrics === undefined ? 'Watching' : `Watching; metrics at ${note.metrics}/metrics`);
        return;
      case 'pass':
        info(`${note.events} new events up to block ${note.block}`);
        return;
      case 'pass-failed':
        problem(`The chain was not read: ${note.code}: ${note.message}`);
        return;
      case 'webhook-failed':
        problem(`A message did not arrive: ${note.message}`);
        return;
      case 'safe-service-failed':
        problem(`The Safe transaction service was not read: ${note.code}: ${note.message}`);
        return;
      case 'simulation-failed':
        problem(`A pending proposal could not be simulated: ${note.code}: ${note.message}`);
        return;
      case 'chain':
        if (note.event.type === 'endpoint-failed') debug(`${note.event.endpoint}: ${note.event.message}`);
    }
  };
}
