import { printable, printableJson, printableMessage } from '@dstack-cloud/encoding';
import { surviveClosedOutput } from '@dstack-cloud/files';
import { errorChain } from '@dstack-cloud/runtime';
import { type Command, readCommand, USAGE, UsageError } from './options.ts';
import { resultLines, resultsJson, summaryLine } from './report.ts';
import { isConforming } from './run-cases.ts';

const VERSION = '0.1.0';

async function main(argv: readonly string[]): Promise<number> {
  const command = readCommand(argv);
  if (command.kind === 'help') {
    process.stdout.write(USAGE);
    return 0;
  }
  if (command.kind === 'version') {
    process.stdout.write(`dstack-conformance ${VERSION}\n`);
    return 0;
  }
  if (command.kind === 'list') return list(command);
  const { json, suite, run } = command;
  const results = await run({
    onResult: (result) => {
      if (!json) print(resultLines(result));
    },
  });
  if (json) process.stdout.write(`${printableJson(resultsJson(suite, results))}\n`);
  else print([summaryLine(results)]);
  return isConforming(results) ? 0 : 1;
}

function list({ json, cases }: Extract<Command, { kind: 'list' }>): number {
  const listed = cases.map(({ id, checks, section, isExtension = false }) => ({
    id,
    checks,
    section,
    extension: isExtension,
  }));
  if (json) process.stdout.write(`${printableJson(JSON.stringify(listed, null, 2))}\n`);
  else
    for (const { id, checks, section, extension } of listed)
      print([`${id}${extension ? ' (extension)' : ''}`, `    ${checks} (${section})`]);
  return 0;
}

function print(lines: readonly string[]): void {
  for (const line of lines) process.stdout.write(`${printable(line)}\n`);
}

surviveClosedOutput();
main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`dstack-conformance: ${printableMessage(errorChain(error))}\n`);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  },
);
