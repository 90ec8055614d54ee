/**
 * `npm run build`: one bundle for each program, in `dist/bin`, and the contract artifacts.
 * Needs nothing but what `npm ci` installed; does nothing when all is up to date.
 */
import { parseArgs } from 'node:util';
import { buildAll } from './build/build-all.ts';

const { values } = parseArgs({
  options: { force: { type: 'boolean', default: false }, json: { type: 'boolean', default: false } },
});

try {
  const result = await buildAll({ force: values.force });
  if (values.json) process.stdout.write(`${JSON.stringify(result)}\n`);
  else
    process.stdout.write(
      `${result.programs.length} programs in ${result.directory} (${result.fresh ? 'up to date' : 'built'}), ` +
        `${result.contracts.length} contract artifacts, ${result.ms} ms\n`,
    );
} catch (error) {
  process.stderr.write(`Build failed: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
