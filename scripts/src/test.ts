/**
 * `npm test [-- FILTER…]`: builds what the tests start, runs the unit tests, then the end-to-end tests (each starts
 * whole services), then those that need the machine for themselves, and closes with one line of counts.
 */
import { availableParallelism } from 'node:os';
import { surviveClosedOutput } from '@dstack-cloud/files';
import { build } from './build.ts';
import { type Counts, runVitest } from './run-vitest.ts';

/**
 * Tests that take minutes: those that boot our OS image and run containers in it without KVM, that kill many deploys or
 * break many uploads, or that build a release twice. They run by name alone (`npm run e2e -- vm-first-app`). What is left
 * out is said at the end.
 */
const BY_NAME_ONLY = [
  'gcp-interrupted-deploy',
  'gcp-kms',
  'gcp-quick-start',
  'gcp-uploads',
  'nitro-aws-interrupted',
  'release',
  'vm-data',
  'vm-demo',
  'vm-disk-attacks',
  'vm-guest',
  'vm-kms-inside',
  'vm-local',
  'vm-power-cut',
  'vm-real-image',
  'vm-tpm-deploy',
  'vm-tpm-provider',
].map((name) => `test/e2e/${name}.test.ts`);

/**
 * Tests that bound how long somebody waits, or count what happened in a time: a neighbour on the other core would be
 * part of that. Each runs with nothing beside it.
 */
const ALONE = [
  'hostile-connections',
  'hostile-inputs',
  'kms-chain',
  'kms-cost',
  'kms-evidence',
  'kms-operations',
  'kms-policy',
  'kms-workers',
  'kms-workers-limits',
  'verifier-floods',
  'vm-measured-boot',
].map((name) => `test/e2e/${name}.test.ts`);

/** Much of a test's time it waits; with one process for each core but one, as by default, two cores have one process. */
const WORKERS = Math.max(2, availableParallelism() - 1);

// Filters of vitest match any part of a path, so the phases are told apart by exclusion.
const without = (files: readonly string[]): string[] => files.flatMap((file) => ['--exclude', file]);
const sideBySide = `--maxWorkers=${WORKERS}`;
const unitTests = ['--exclude', 'test/e2e/**', ...without(ALONE), sideBySide];
const endToEnd = ['test/e2e/', ...without([...ALONE, ...BY_NAME_ONLY]), sideBySide];
const alone = [...ALONE, '--no-file-parallelism'];

surviveClosedOutput();
const filters = process.argv.slice(2);
await build();
const phases = filters.length > 0 ? [filters] : [unitTests, endToEnd, alone];
const total: Counts = { passed: 0, failed: 0, skipped: 0, failures: [] };
for (const phase of phases) {
  const counts = await runVitest(phase);
  total.passed += counts.passed;
  total.failed += counts.failed;
  total.skipped += counts.skipped;
  total.failures.push(...counts.failures);
}
if (filters.length === 0) {
  console.log(`\nNot run here, since each takes minutes: ${BY_NAME_ONLY.join(', ')}`);
  console.log('Run them by name of file or test: npm run e2e -- vm-local; npm run e2e -- --list');
}
// Once more at the end: what failed in the first phase stands far above.
for (const failure of total.failures) console.log(`\nfailed: ${failure}`);
console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;
