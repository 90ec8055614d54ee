/**
 * `npm run e2e -- NAME…` runs end-to-end tests by name, `npm run e2e -- --list` lists them,
 * `npm run e2e` runs all. The name is the text before the colon of the test's title, or a file's name without `.test.ts`.
 */
import { surviveClosedOutput } from '@dstack-cloud/files';
import { build } from './build.ts';
import { endToEndTests, runVitest, testsCalled } from './run-vitest.ts';

surviveClosedOutput();
const args = process.argv.slice(2);
const wantsHelp = args.includes('--help') || args.includes('-h');
const names = args.includes('--list') ? [] : args;
const tests = wantsHelp ? [] : await endToEndTests(names);

if (wantsHelp) {
  console.log(
    'Usage: npm run e2e [-- --list | NAME…]\n\nRuns end-to-end tests: all, or those of a name or of a file.',
  );
} else if (args.includes('--list')) {
  for (const { title } of tests) console.log(title);
} else {
  const unknown = args.filter((name) => testsCalled(name, tests).length === 0);
  if (unknown.length > 0) {
    console.error(`No end-to-end test is called ${unknown.join(', ')}. See: npm run e2e -- --list`);
    process.exitCode = 2;
  } else {
    await build();
    const chosen = args.length === 0 ? tests : args.flatMap((name) => testsCalled(name, tests));
    const files = [...new Set(chosen.map(({ file }) => file))];
    const names = [...new Set(chosen.map(({ name }) => escapePattern(name)))];
    const pattern = args.length === 0 ? [] : ['-t', `(^|\\s)(${names.join('|')}):`];
    const { passed, failed } = await runVitest([...files, '--no-file-parallelism', ...pattern]);
    // Tests that the name pattern leaves out are not "skipped" to whoever asked for one name.
    console.log(`\n${passed} passed, ${failed} failed`);
    process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
  }
}

function escapePattern(name: string): string {
  return name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
