import { resolve } from 'node:path';
import { printableJson, printableLine, printableMessage } from '@dstack-cloud/encoding';
import { surviveClosedOutput } from '@dstack-cloud/files';
import { type CommandLine, parseCommandLine, USAGE, UsageError } from './command-line.ts';
import { cvmLogs } from './logs/logs.ts';
import { HURRY, removeCvm, startCvm, stopCvm } from './run/lifecycle.ts';
import { supervise } from './run/supervise.ts';
import { cvmStatus, listCvms } from './state/status.ts';

async function run(): Promise<number> {
  surviveClosedOutput();
  const line = parseCommandLine(process.argv.slice(2));
  const { command, argument } = line;
  if (command === 'version') process.stdout.write('dstack-vmm 0.1.0\n');
  if (command === 'help') process.stdout.write(USAGE);
  if (command === 'help' || command === 'version') return 0;
  if (command === 'serve' || command === 'run' || command === 'check-config') return await runService(line);
  const dir = resolve(argument);
  const print = (value: unknown): void =>
    void process.stdout.write(`${printableJson(JSON.stringify(value, null, 2))}\n`);
  if (command === 'supervise') return await superviseUntilSignal(dir, line.whenTold);
  if (command === 'list') print(await listCvms(dir));
  else if (command === 'status') print(await cvmStatus(dir));
  else if (command === 'start') print(await startCvm(dir));
  else if (command === 'stop') await stopCvm(dir, { force: line.force });
  else if (command === 'remove') await removeCvm(dir);
  else process.stdout.write(`${(await logLines(dir, line)).map((text) => printableLine(text)).join('\n')}\n`);
  return 0;
}

async function logLines(dir: string, { lines, container }: CommandLine): Promise<string[]> {
  return await cvmLogs(dir, { lines, ...(container === undefined ? {} : { container }) });
}

/** Loaded only here: a supervisor needs none of it. */
async function runService(line: CommandLine): Promise<number> {
  const { command, argument: file, config: configFile } = line;
  const { checkFiles, loadConfig, serve, createLog, runOneShot, shownConfig } = await import(
    './service/index.ts'
  );
  const config = await loadConfig(configFile, {
    warn: (text) => void process.stderr.write(`dstack-vmm: ${printableLine(text)}\n`),
  });
  if (command === 'check-config') await checkFiles(config);
  if (line.printConfig || command === 'check-config') {
    const text = line.printConfig
      ? JSON.stringify(shownConfig(config), null, 2)
      : 'The configuration is valid';
    process.stdout.write(`${printableJson(text)}\n`);
    return 0;
  }
  const { stop, hurry } = signals();
  if (command === 'run') {
    return await runOneShot(config, {
      ...{ file, workDir: line.workDir, dryRun: line.dryRun, signal: stop, hurry },
      print: (text) => void process.stdout.write(`${printableLine(text)}\n`),
    });
  }
  const log = createLog(config.log_level);
  await serve(config, stop, { log, ...(configFile === undefined ? {} : { configFile }) });
  return 0;
}

async function superviseUntilSignal(dir: string, whenTold: boolean): Promise<number> {
  if (whenTold && !(await isTold())) return 0;
  const { stop, hurry } = signals();
  return await supervise(dir, stop, hurry);
}

/** What tells this process to stop, and to stop at once. */
function signals(): { stop: AbortSignal; hurry: AbortSignal } {
  const stop = new AbortController();
  const hurry = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
    process.on(signal, () => stop.abort(new Error(signal)));
  process.on(HURRY, () => {
    hurry.abort(new Error(HURRY));
    stop.abort(new Error(HURRY));
  });
  return { stop: stop.signal, hurry: hurry.signal };
}

/** Whether the process that started this one told it to begin; it says nothing when it was killed. */
async function isTold(): Promise<boolean> {
  for await (const _ of process.stdin) return true;
  return false;
}

try {
  process.exitCode = await run();
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  const isUsage = error instanceof UsageError;
  process.stderr.write(
    `dstack-vmm: ${printableMessage(message)}${isUsage ? '; see dstack-vmm --help' : ''}\n`,
  );
  process.exitCode = isUsage ? 2 : 1;
}
