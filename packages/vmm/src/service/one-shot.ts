import { join, resolve } from 'node:path';
import { AppError, readFileBounded } from '@dstack-cloud/app';
import { utf8Text } from '@dstack-cloud/encoding';
import { decodeJson, PrpcError, vmm } from '@dstack-cloud/prpc';
import { createCvm, plannedCommand } from '../change/create-cvm.ts';
import type { CreateOptions } from '../change/create-options.ts';
import { VmmError } from '../errors.ts';
import { followCvmLogs } from '../logs/logs.ts';
import { supervise } from '../run/supervise.ts';
import type { VmmConfig } from './config/vmm-config.ts';
import { Images } from './images.ts';
import { Machines } from './machines/machines.ts';

const MAX_FILE = 4 * 2 ** 20;

interface OneShotOptions {
  /** JSON of a VmConfiguration. */
  readonly file: string;
  /** Where the machine is made; a new folder in the current one when absent. */
  readonly workDir: string | undefined;
  /** Prints what would run, and ends. */
  readonly dryRun: boolean;
  readonly print: (line: string) => void;
  readonly signal: AbortSignal;
  readonly hurry: AbortSignal;
}

/**
 * Makes one machine and runs it in the foreground until it ends, its console on standard output. Its folder stays.
 *
 * @returns 0 when it ended in order
 * @throws VmmError
 */
export async function runOneShot(config: VmmConfig, options: OneShotOptions): Promise<number> {
  const request = withDefaults(await readRequest(options.file));
  const seconds = Math.floor(Date.now() / 1000);
  const name = request.name.replaceAll(/[^A-Za-z0-9_.-]/g, '-');
  const dir = resolve(options.workDir ?? `dstack-oneshot-${name}-${seconds}`);
  const machines = new Machines(config, new Images(config.image_path), () => undefined);
  const planned = await machines.plan(request, dir);
  const machine: CreateOptions =
    planned.vm === undefined ? planned : { ...planned, vm: { ...planned.vm, restart: false } };
  for (const line of [`# VM ${machine.id}`, `# folder ${dir}`, `# app ${machine.appId}`]) options.print(line);
  options.print((await plannedCommand(machine)).map(quoted).join(' '));
  if (options.dryRun) return 0;
  await createCvm(machine);
  const ended = new AbortController();
  const following = followCvmLogs(dir, { lines: 0 }, (line) => options.print(line), ended.signal).catch(
    () => undefined,
  );
  try {
    return await supervise(dir, options.signal, options.hurry);
  } finally {
    ended.abort();
    await following;
    options.print(`# ended; its files are in ${dir}, its console in ${join(dir, 'logs/serial.log')}`);
  }
}

async function readRequest(file: string): Promise<vmm.VmConfiguration> {
  try {
    return decodeJson(vmm.VmConfigurationSchema, utf8Text(await readFileBounded(file, MAX_FILE)));
  } catch (cause) {
    if (!(cause instanceof AppError || cause instanceof PrpcError)) throw cause;
    throw new VmmError('bad_option', `${file} is no configuration of a machine: ${cause.message}`, { cause });
  }
}

/** An application that does nothing, for trying out an image. */
function withDefaults(request: vmm.VmConfiguration): vmm.VmConfiguration {
  if (request.composeFile !== '') return request;
  const compose = {
    manifest_version: 1,
    name: request.name || 'oneshot',
    runner: 'bash',
    bash_script: 'true\n',
    key_provider: 'none',
    public_logs: true,
    public_sysinfo: true,
    secure_time: false,
    storage_fs: 'ext4',
  };
  return { ...request, name: request.name || 'oneshot', composeFile: JSON.stringify(compose, null, 2) };
}

/** As a shell takes it. */
function quoted(text: string): string {
  return /^[A-Za-z0-9_\-+=:,./]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
