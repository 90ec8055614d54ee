/**
 * `npm test [-- FILTER…]`: builds what the tests start, runs the unit tests, then the end-to-end tests one file
 * at a time (each starts whole services), and closes with one line of counts.
 */
import { surviveClosedOutput } from '@dstack-cloud/files';
import { build } from './build.ts';
import { type Counts, runVitest } from './run-vitest.ts';

// Filters of vitest match any part of a path, so the two phases are told apart by exclusion.
const unitTests = ['--exclude', 'test/e2e/**'];
const endToEnd = ['test/e2e/', '--no-file-parallelism'];

surviveClosedOutput();
const filters = process.argv.slice(2);
await build();
const phases = filters.length > 0 ? [filters] : [unitTests, endToEnd];
const total: Counts = { passed: 0, failed: 0, skipped: 0 };
for (const phase of phases) {
  const counts = await runVitest(phase);
  total.passed += counts.passed;
  total.failed += counts.failed;
  total.skipped += counts.skipped;
}
console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;
