import { measurementsFile, type Pcrs } from '@dstack-cloud/eif';
import type { Context } from '../context.ts';

/** The registers and the hash for the contract; with `--json` what nitro-cli prints, and that hash beside it. */
export function printMeasurements(context: Context, pcrs: Pcrs, pcr8: Uint8Array | undefined): void {
  const file = measurementsFile(pcrs, pcr8);
  const { HashAlgorithm: _, ...registers } = file.Measurements;
  for (const [name, value] of Object.entries(registers)) context.print(`${name}: ${value}`);
  context.print(`OS_IMAGE_HASH: ${file.OS_IMAGE_HASH}`);
  context.result(file);
}
