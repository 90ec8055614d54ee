import { surviveClosedOutput } from '@dstack-cloud/files';
import { runUtil } from './run-util.ts';

surviveClosedOutput();
process.exitCode = await runUtil(process.argv.slice(2));
