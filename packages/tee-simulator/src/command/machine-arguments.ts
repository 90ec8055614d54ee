import { resolve } from 'node:path';
import { SimulatorError } from '../errors.ts';
import { imageFolderBoot } from '../image/image-folder-boot.ts';
import { type SimulatedBoot, type SimulatedMachine, simulatedBoot } from '../image/simulated-image.ts';
import type { Arguments } from './arguments.ts';

export const MACHINE_OPTIONS: readonly string[] = ['image', 'image-folder', 'cpus', 'memory', 'qemu-version'];
const DEFAULT_IMAGE = 'dstack-simulated';
const DEFAULT_CPUS = 2;
const DEFAULT_MEMORY = 4 * 1024 ** 3;
const DEFAULT_QEMU = '9.1.0';

/** `--image NAME | --image-folder DIR, --cpus N --memory BYTES --qemu-version V` */
export function machineArguments(args: Arguments): SimulatedMachine {
  const cpuCount = args.integer('cpus');
  const memorySize = args.integer('memory');
  const folder = args.text('image-folder');
  if (folder !== undefined && args.text('image') !== undefined)
    throw new SimulatorError('argument', '--image and --image-folder name two images; give one');
  return {
    image: args.text('image') ?? (folder === undefined ? DEFAULT_IMAGE : resolve(folder)),
    ...(cpuCount === undefined ? {} : { cpuCount }),
    ...(memorySize === undefined ? {} : { memorySize }),
  };
}

/** The boot that the arguments describe: of the files in a folder, or of an image that is nothing but a name. */
export async function bootArguments(args: Arguments): Promise<SimulatedBoot> {
  const machine = machineArguments(args);
  const folder = args.text('image-folder');
  if (folder === undefined) return simulatedBoot(machine);
  return await imageFolderBoot({
    folder: resolve(folder),
    cpuCount: machine.cpuCount ?? DEFAULT_CPUS,
    memorySize: machine.memorySize ?? DEFAULT_MEMORY,
    qemuVersion: args.text('qemu-version') ?? DEFAULT_QEMU,
  });
}
