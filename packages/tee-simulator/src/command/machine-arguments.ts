import type { SimulatedMachine } from '../image/simulated-image.ts';
import type { Arguments } from './arguments.ts';

export const MACHINE_OPTIONS: readonly string[] = ['image', 'cpus', 'memory'];
const DEFAULT_IMAGE = 'dstack-simulated';

/** `--image NAME --cpus N --memory BYTES` */
export function machineArguments(args: Arguments): SimulatedMachine {
  const cpuCount = args.integer('cpus');
  const memorySize = args.integer('memory');
  return {
    image: args.text('image') ?? DEFAULT_IMAGE,
    ...(cpuCount === undefined ? {} : { cpuCount }),
    ...(memorySize === undefined ? {} : { memorySize }),
  };
}
