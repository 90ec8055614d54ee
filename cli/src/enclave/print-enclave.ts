import type { Context } from '../context.ts';
import type { PreparedNitro } from './prepare-enclave.ts';

/** The registers, the hash for the contracts, and where the image is. */
export function printEnclave(context: Context, prepared: PreparedNitro): void {
  const { measurements, file, size } = prepared.enclave;
  const { HashAlgorithm: _, ...registers } = measurements.Measurements;
  for (const [name, value] of Object.entries(registers)) context.print(`${name}: ${value}`);
  context.print(`OS_IMAGE_HASH: ${measurements.OS_IMAGE_HASH}`);
  context.print(`app-id: ${prepared.appId}`);
  context.info(`Enclave image ${file}, ${Math.ceil(size / 2 ** 20)} MiB`);
}

/** The same for programs. */
export function enclaveResult({ appId, enclave }: PreparedNitro): object {
  return { ...enclave.measurements, app_id: appId, eif: enclave.file, size: enclave.size };
}
