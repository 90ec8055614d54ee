import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { printableJson, printableLine, printableMessage } from '@dstack-cloud/encoding';
import { surviveClosedOutput } from '@dstack-cloud/files';
import { VmmError } from './errors.ts';
import { cvmLogs } from './logs/logs.ts';
import { HURRY, removeCvm, startCvm, stopCvm } from './run/lifecycle.ts';
import { supervise } from './run/supervise.ts';
import { cvmStatus, listCvms } from './state/status.ts';

const USAGE = `dstack-vmm: confidential machines on this host

  dstack-vmm [-c FILE] [serve]     serve machines of driver "vm" (an OS image under QEMU) on a socket
  dstack-vmm [-c FILE] run VM.json [--workdir DIR] [--dry-run]
                                   one machine in the foreground
  dstack-vmm [-c FILE] check-config
                                   what serve would refuse in its configuration; --print-config shows it

One machine by its folder, of driver "vm" or "process" (a simulated TEE, no isolation):

  dstack-vmm list RUN_DIR          machines below a folder, as JSON
  dstack-vmm status DIR            one machine, as JSON
  dstack-vmm start|stop|remove DIR
  dstack-vmm stop DIR --force      at once, without asking the guest
  dstack-vmm logs DIR [-n LINES] [--container NAME]
  dstack-vmm supervise DIR         run a machine in the foreground until SIGTERM
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    lines: { type: 'string', short: 'n', default: '100' },
    container: { type: 'string' },
    force: { type: 'boolean', default: false },
    config: { type: 'string', short: 'c' },
    'print-config': { type: 'boolean', default: false },
    workdir: { type: 'string' },
    'dry-run': { type: 'boolean', default: false },
    'when-told': { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
    version: { type: 'boolean', short: 'V', default: false },
  },
});

async function run(): Promise<number> {
  surviveClosedOutput();
  const [command, directory] = positionals;
  if (values.version) process.stdout.write('dstack-vmm 0.1.0\n');
  if (values.version) return 0;
  if (values.help) process.stdout.write(USAGE);
  if (values.help) return 0;
  const served = command ?? 'serve';
  if (['serve', 'run', 'check-config'].includes(served)) return await runService(served, directory);
  if (directory === undefined) {
    process.stderr.write(USAGE);
    return 2;
  }
  const dir = resolve(directory);
  const print = (value: unknown): void =>
    void process.stdout.write(`${printableJson(JSON.stringify(value, null, 2))}\n`);
  if (command === 'supervise') return await superviseUntilSignal(dir);
  if (command === 'list') print(await listCvms(dir));
  else if (command === 'status') print(await cvmStatus(dir));
  else if (command === 'start') print(await startCvm(dir));
  else if (command === 'stop') await stopCvm(dir, { force: values.force });
  else if (command === 'remove') await removeCvm(dir);
  else if (command === 'logs')
    process.stdout.write(`${(await logLines(dir)).map((line) => printableLine(line)).join('\n')}\n`);
  else throw new VmmError('bad_option', `Unknown command ${command}\n\n${USAGE}`);
  return 0;
}

async function logLines(dir: string): Promise<string[]> {
  const { container } = values;
  return await cvmLogs(dir, {
    lines: Number(values.lines),
    ...(container === undefined ? {} : { container }),
  });
}

/** Loaded only here: a supervisor needs none of it. */
async function runService(command: string, file: string | undefined): Promise<number> {
  const { checkFiles, loadConfig, serve, createLog, runOneShot, shownConfig } = await import(
    './service/index.ts'
  );
  const config = await loadConfig(values.config, {
    warn: (text) => void process.stderr.write(`dstack-vmm: ${printableLine(text)}\n`),
  });
  if (command === 'check-config') checkFiles(config);
  if (values['print-config'] || command === 'check-config') {
    const text = values['print-config']
      ? JSON.stringify(shownConfig(config), null, 2)
      : 'The configuration is valid';
    process.stdout.write(`${printableJson(text)}\n`);
    return 0;
  }
  const { stop, hurry } = signals();
  if (command === 'run') {
    if (file === undefined) throw new VmmError('bad_option', 'run needs the file of a VM configuration');
    return await runOneShot(config, {
      ...{ file, workDir: values.workdir, dryRun: values['dry-run'], signal: stop, hurry },
      print: (line) => void process.stdout.write(`${printableLine(line)}\n`),
    });
  }
  const log = createLog(config.log_level);
  await serve(config, stop, { log, ...(values.config === undefined ? {} : { configFile: values.config }) });
  return 0;
}

async function superviseUntilSignal(dir: string): Promise<number> {
  if (values['when-told'] && !(await isTold())) return 0;
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
  process.stderr.write(`dstack-vmm: ${printableMessage(message)}\n`);
  process.exitCode = 1;
}
