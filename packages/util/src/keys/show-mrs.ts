import { Nsm, nitroImageHash } from '@dstack-cloud/attestation/attester';
import { openSource, osImageHash, type Pcrs, parseMeasurements, readEif } from '@dstack-cloud/eif';
import { fromHex, isZero, toHex } from '@dstack-cloud/encoding';
import { UtilError } from '../errors.ts';
import { notOpened, readNamedFile } from '../files.ts';
import { isEnclave, type Machine } from '../machine.ts';

const MAX_MEASUREMENTS = 1024 * 1024;

/** The registers of an image and the hash that a contract allows, hex. */
export interface ShownMeasurements {
  readonly PCR0: string;
  readonly PCR1: string;
  readonly PCR2: string;
  readonly OS_IMAGE_HASH: string;
}

/** Of an EIF, of the JSON of nitro-cli, or of the enclave that this is. @throws UtilError */
export async function measurementsOf(
  from: { readonly eif?: string | undefined; readonly measurements?: string | undefined },
  machine: Machine,
): Promise<ShownMeasurements> {
  if (from.eif !== undefined && from.measurements !== undefined)
    throw new UtilError('--eif and --measurements exclude each other');
  if (from.eif !== undefined) return shown(await pcrsOfEif(from.eif));
  if (from.measurements !== undefined) return shown(await pcrsOfJson(from.measurements));
  if (!isEnclave(machine))
    throw new UtilError(
      'This is not a Nitro enclave (there is no /dev/nsm): name an image with --eif FILE, or the JSON of nitro-cli with --measurements FILE',
    );
  return shown(await pcrsOfEnclave(machine.nsm));
}

/** The four lines of the documented output. */
export function measurementLines(of: ShownMeasurements): string {
  return Object.entries(of)
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('');
}

function shown(pcrs: Pcrs): ShownMeasurements {
  const { pcr0, pcr1, pcr2 } = pcrs;
  const isDebug = [pcr0, pcr1, pcr2].every(isZero);
  const hash = isDebug ? toHex(nitroImageHash(new Map([pcr0, pcr1, pcr2].entries()))) : osImageHash(pcrs);
  return { PCR0: toHex(pcr0), PCR1: toHex(pcr1), PCR2: toHex(pcr2), OS_IMAGE_HASH: `0x${hash}` };
}

async function pcrsOfEif(path: string): Promise<Pcrs> {
  const source = await openSource(path).catch((cause: unknown) => {
    throw new UtilError(`failed to read EIF ${path}`, notOpened(path, cause));
  });
  try {
    const eif = await readEif(source);
    if (eif.crc32 !== eif.header.crc32)
      throw new UtilError('the checksum in its header does not match its content');
    return eif.pcrs;
  } catch (cause) {
    throw new UtilError(`failed to read EIF ${path}`, cause);
  } finally {
    await source.close();
  }
}

async function pcrsOfJson(path: string): Promise<Pcrs> {
  const message = `failed to read measurements from ${path}`;
  const bytes = await readNamedFile(path, message, MAX_MEASUREMENTS);
  try {
    const found = parseMeasurements(new TextDecoder().decode(bytes));
    const register = (name: 'PCR0' | 'PCR1' | 'PCR2'): Uint8Array =>
      fromHex(found[name] ?? '', { length: 48 });
    return { pcr0: register('PCR0'), pcr1: register('PCR1'), pcr2: register('PCR2') };
  } catch (cause) {
    throw new UtilError(message, cause);
  }
}

async function pcrsOfEnclave(location: string): Promise<Pcrs> {
  const nsm = new Nsm(location);
  try {
    const register = async (index: number): Promise<Uint8Array> => (await nsm.describePcr(index)).value;
    return { pcr0: await register(0), pcr1: await register(1), pcr2: await register(2) };
  } catch (cause) {
    throw new UtilError('failed to read the registers of this enclave', cause);
  }
}
