import { printableLine } from '@dstack-cloud/encoding';

const LINES = 4;
const MAX_LINE = 240;

/**
 * The end of what a program said, as part of an error: the host reads it, and the program may repeat what came from
 * outside. Empty for a program that said nothing.
 */
export function lastWords(said: string): string {
  const lines = said.split(/[\r\n]+/).filter((line) => line.trim() !== '');
  return lines
    .slice(-LINES)
    .map((line) => printableLine(line.trim(), MAX_LINE))
    .join(' / ');
}
