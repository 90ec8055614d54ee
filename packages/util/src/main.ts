import { surviveClosedOutput } from '@dstack-cloud/files';
import { runUtil } from './run-util.ts';

surviveClosedOutput();
// No top-level await: a single executable is CommonJS.
void runUtil(process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});
