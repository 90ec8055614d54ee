import pc from 'picocolors';
import type { Context } from '../context.ts';
import { type AppReport, appVerdict, identityOf } from './app-report.ts';

const NAME_WIDTH = 22;

/** The chain, link by link, and the verdict. */
export function printReport(context: Context, app: AppReport): void {
  const { report, links, isValid } = app;
  const paint = pc.createColors(context.color);
  const marked = (indent: string, ok: boolean | null, text: string): void => {
    const [mark, color] =
      ok === null
        ? (['-', paint.yellow] as const)
        : ok
          ? (['✓', paint.green] as const)
          : (['✗', paint.red] as const);
    context.print(`${indent}${mark} ${text}`, (line) => line.replace(mark, color));
  };
  for (const { name, ok, why, expected, found } of links) {
    marked('', ok, `${name.padEnd(NAME_WIDTH)} ${why}`);
    if (expected !== undefined) context.print(`${' '.repeat(NAME_WIDTH + 3)}expected ${expected}`);
    if (found !== undefined && ok !== true) context.print(`${' '.repeat(NAME_WIDTH + 3)}found    ${found}`);
    if (name === 'Hardware' && (context.verbose || ok === false))
      for (const check of report.checks) marked('    ', check.ok, `${check.id} (${check.reference})`);
  }
  for (const [name, value] of Object.entries(identityOf(report) ?? {}))
    if (context.verbose) context.print(`  ${name.padEnd(NAME_WIDTH)} ${value}`);
  context.print('');
  const isGood = isValid && !report.simulated && report.verifiedNow && report.comparisons.length > 0;
  context.print(`Verdict: ${appVerdict(app)}`, isGood ? paint.green : isValid ? paint.yellow : paint.red);
}
