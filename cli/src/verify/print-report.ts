import pc from 'picocolors';
import type { Context } from '../context.ts';
import type { Report } from './verify-evidence.ts';

const NAME_WIDTH = 22;

/** The chain, link by link, and the verdict. */
export function printReport(context: Context, report: Report): void {
  const paint = pc.createColors(context.color && context.interactive);
  for (const { name, ok, why, expected, found } of report.links) {
    const mark = ok === null ? paint.yellow('-') : ok ? paint.green('✓') : paint.red('✗');
    context.print(`${mark} ${name.padEnd(NAME_WIDTH)} ${why}`);
    if (expected !== undefined) context.print(`${' '.repeat(NAME_WIDTH + 3)}expected ${expected}`);
    if (found !== undefined && ok === false) context.print(`${' '.repeat(NAME_WIDTH + 3)}found    ${found}`);
    if (name === 'Hardware' && (context.verbose || ok === false))
      for (const check of report.checks)
        context.print(`    ${check.ok ? paint.green('✓') : paint.red('✗')} ${check.id} (${check.reference})`);
  }
  for (const [name, value] of Object.entries(report.identity ?? {}))
    if (context.verbose) context.print(`  ${name.padEnd(NAME_WIDTH)} ${value}`);
  context.print('');
  const color = report.is_valid ? (report.simulated ? paint.yellow : paint.green) : paint.red;
  context.print(color(`Verdict: ${report.verdict}`));
}
