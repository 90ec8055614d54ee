import { setTimeout as sleep } from 'node:timers/promises';
import { CliError } from '../../errors.ts';
import type { ProjectState } from '../../project/state-file.ts';
import { explainBoot } from '../explain-boot.ts';
import { GcpError } from './api/gcp-error.ts';
import { isPassing } from './api/gcp-session.ts';
import type { GcpPlace } from './gcp-place.ts';

const LONGEST_MS = 15 * 60 * 1000;
const POLL_MS = 2_000;
/** Firmware that finds nothing to boot says so again and again. */
const LOADS_FAILED = 3;

/** What a console says on the way; each is told once. */
const MILESTONES: readonly (readonly [RegExp, string])[] = [
  [/booting dstack initramfs|dstack-initramfs/i, 'The OS image boots'],
  [/Preparing dstack system|Machine is prepared/i, 'The machine is prepared'],
  [/Using persistent data disk|data disk ready|Data disk is mounted/i, 'The data disk is open'],
];
const STARTED = /Container \S+\s+Started|Application runs:|Finished .*app-compose/i;
const FAILED =
  /Boot denied: .*|failed to start containers.*|The application does not start.*|Boot failed.*|unsupported runner: .*|Kernel panic.*/i;
/** A line of our guest's log, which names the cause first. */
const GUEST_FAILED =
  /"error":("(?:[^"\\\r\n]|\\.){1,4096}"),"msg":"(?:The machine cannot be prepared|The application does not start)/;
const NO_LOADER = /Failed to load image|failed to load Boot\d+/gi;

/** Why a boot failed, as its console says; undefined while it may still succeed. */
export function failureOf(console: string): string | undefined {
  const quoted = GUEST_FAILED.exec(console)?.[1];
  if (quoted === undefined) return FAILED.exec(console)?.[0];
  try {
    return String(JSON.parse(quoted));
  } catch {
    return quoted;
  }
}

/**
 * Follows the console of a machine that was just started, until its containers start or it says why not. A console that says
 * nothing known in a quarter of an hour is a warning: the machine is there.
 *
 * @throws CliError `boot_failed`
 */
export async function watchBoot(gcp: GcpPlace, state: ProjectState, waits: boolean): Promise<void> {
  if (!waits) return;
  const { place, settings, compute } = gcp;
  const { context } = place;
  const deadline = performance.now() + LONGEST_MS;
  const told = new Set<string>();
  let start = 0n;
  let text = '';
  context.info('Booting');
  while (performance.now() < deadline && !context.signal.aborted) {
    try {
      const output = await compute.serialOutput(settings.zone, settings.instance, start);
      text = (text + output.contents).slice(-256 * 1024);
      start = output.next;
    } catch (error) {
      if (!(error instanceof GcpError) || !isPassing(error)) throw error;
    }
    for (const [pattern, words] of MILESTONES) {
      if (told.has(words) || !pattern.test(text)) continue;
      told.add(words);
      context.info(`  ${words}`);
    }
    const failed = failureOf(text);
    if (failed !== undefined)
      throw explainBoot(new CliError('boot_failed', failed.trim().slice(0, 500)), state, 'deploy');
    if ((text.match(NO_LOADER) ?? []).length >= LOADS_FAILED)
      throw new CliError('boot_failed', 'The firmware finds nothing to boot: wrong boot image', {
        hint: 'Use disk.raw of the archive whose name ends with -uki.tar.gz, then deploy again with --force-boot-image',
      });
    if (STARTED.test(text)) return context.info('  The containers start');
    await sleep(POLL_MS, undefined, { signal: context.signal }).catch(() => undefined);
  }
  context.warn('The console has not said yet that the application runs; see dstack-cloud logs --follow');
}
