import { parseArguments } from './command-line/parse.ts';
import { DSTACK_UTIL } from './commands/index.ts';
import { printableReport } from './errors.ts';
import { VERSION } from './version.ts';

const USAGE_ERROR = 2;

/** Runs one command. @returns the exit code */
export async function runUtil(args: readonly string[]): Promise<number> {
  try {
    const parsed = parseArguments(DSTACK_UTIL, args, VERSION);
    if (parsed.kind === 'page') {
      (parsed.isError ? process.stderr : process.stdout).write(parsed.text);
      return parsed.isError ? USAGE_ERROR : 0;
    }
    await parsed.command.run?.(parsed.values);
    return 0;
  } catch (error) {
    process.stderr.write(printableReport(error));
    return 1;
  }
}
