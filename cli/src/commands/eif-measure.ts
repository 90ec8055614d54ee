import type { Context } from '../context.ts';
import { printMeasurements } from '../eif/print-measurements.ts';
import { withEif } from '../eif/with-eif.ts';

/** `eif measure`: the registers that an enclave of this image will have, and the hash that a contract allows. */
export async function run(context: Context, args: readonly string[]): Promise<undefined> {
  await withEif(context, args[0]!, async (eif) => {
    if (eif.crc32 !== eif.header.crc32)
      context.warn('The checksum in the header is wrong: the image was damaged or changed (eif verify)');
    printMeasurements(context, eif.pcrs, eif.pcr8);
  });
  return undefined;
}
