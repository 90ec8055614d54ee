import pc from 'picocolors';
import type { Context } from '../context.ts';
import type { Report } from './verify-evidence.ts';

const NAME_WIDTH = 22;

/** The chain, link by link, and the verdict. */
export function printReport(context: Context, report: Report): void {
  const paint = pc.createColors(context.color && context.interactive);
  const marked = (indent: string, ok: boolean | null, text: string): void => {
    const [mark, color] =
      ok === null
        ? (['-', paint.yellow] as const)
        : ok
          ? (['✓', paint.green] as const)
          : (['✗', paint.red] as const);
    context.print(`${indent}${mark} ${text}`, (line) => line.replace(mark, color));
  };
  for (const { name, ok, why, expected, found } of report.links) {
    marked('', ok, `${name.padEnd(NAME_WIDTH)} ${why}`);
    if (expected !== undefined) context.print(`${' '.repeat(NAME_WIDTH + 3)}expected ${expected}`);
    if (found !== undefined && ok === false) context.print(`${' '.repeat(NAME_WIDTH + 3)}found    ${found}`);
    if (name === 'Hardware' && (context.verbose || ok === false))
      for (const check of report.checks) marked('    ', check.ok, `${check.id} (${check.reference})`);
  }
  for (const [name, value] of Object.entries(report.identity ?? {}))
    if (context.verbose) context.print(`  ${name.padEnd(NAME_WIDTH)} ${value}`);
  context.print('');
  const color = report.is_valid ? (report.simulated ? paint.yellow : paint.green) : paint.red;
  context.print(`Verdict: ${report.verdict}`, color);
}
