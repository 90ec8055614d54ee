import { checkHealth, type HealthLevel, worstLevel } from '@dstack-cloud/governance';
import picocolors from 'picocolors';
import type { Context } from '../context.ts';
import { connectGov, type GovOptions } from '../gov/connect-gov.ts';
import { readHealthFacts } from '../gov/read-health-facts.ts';
import { wholeNumber } from '../whole-number.ts';

const EXIT_CODES: Readonly<Record<HealthLevel, number>> = { ok: 0, warning: 1, unknown: 1, critical: 2 };

/** `gov health`: every row of the health check; exit code 0 when all is well, 1 for warnings, 2 for what is critical. */
export async function run(
  context: Context,
  _: readonly string[],
  options: GovOptions & { readonly requireTimelock?: string },
): Promise<number> {
  const session = await connectGov(context, options);
  const view = await session.read();
  const demanded = wholeNumber('--require-timelock', options.requireTimelock);
  const rows = checkHealth(await readHealthFacts(session, view, demanded));
  const colors = picocolors.createColors(context.color);
  const paint = { ok: colors.green, warning: colors.yellow, unknown: colors.yellow, critical: colors.red };
  for (const { level, text, expected, found } of rows) {
    const detail =
      level === 'ok' || found === undefined
        ? ''
        : ` (found ${found}${expected ? `, expected ${expected}` : ''})`;
    context.print(`${level.padEnd(8)} ${text}${detail}`, paint[level]);
  }
  const level = worstLevel(rows);
  context.result({ level, rows });
  return EXIT_CODES[level];
}
