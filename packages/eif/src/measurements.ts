import { toHex } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { EifError } from './errors.ts';
import { osImageHash, type Pcrs } from './measure/pcrs.ts';

/** The measurements in the form that nitro-cli prints. */
export interface Measurements {
  readonly HashAlgorithm: 'Sha384 { ... }';
  readonly PCR0: string;
  readonly PCR1: string;
  readonly PCR2: string;
  /** Of the signing certificate; absent when the image is not signed. */
  readonly PCR8?: string;
}

export const PCR_NAMES = ['PCR0', 'PCR1', 'PCR2', 'PCR8'] as const;
export type PcrName = (typeof PCR_NAMES)[number];

export function measurements(pcrs: Pcrs, pcr8: Uint8Array | undefined): Measurements {
  return {
    HashAlgorithm: 'Sha384 { ... }',
    PCR0: toHex(pcrs.pcr0),
    PCR1: toHex(pcrs.pcr1),
    PCR2: toHex(pcrs.pcr2),
    ...(pcr8 === undefined ? {} : { PCR8: toHex(pcr8) }),
  };
}

/** What nitro-cli prints after a build, and the hash that a contract allows beside it. */
export function measurementsFile(
  pcrs: Pcrs,
  pcr8: Uint8Array | undefined,
): { readonly Measurements: Measurements; readonly OS_IMAGE_HASH: string } {
  return { Measurements: measurements(pcrs, pcr8), OS_IMAGE_HASH: `0x${osImageHash(pcrs)}` };
}

const pcr = z.string().regex(/^[0-9a-f]{96}$/i, 'expected 96 hex digits');
const registers = z.object({ PCR0: pcr, PCR1: pcr, PCR2: pcr, PCR8: pcr.optional() });
const fileSchema = z.union([z.object({ Measurements: registers }), registers]);

/** Reads the JSON of nitro-cli or ours, with or without the wrapper. @throws EifError `bad-argument` */
export function parseMeasurements(text: string): Partial<Record<PcrName, string>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new EifError('bad-argument', 'The file of measurements is not JSON', { cause });
  }
  const parsed = fileSchema.safeParse(value);
  if (!parsed.success)
    throw new EifError('bad-argument', 'The file of measurements is not in the form of nitro-cli', {
      expected: '{"Measurements":{"PCR0":…,"PCR1":…,"PCR2":…}}, each of 96 hex digits',
    });
  const found = 'Measurements' in parsed.data ? parsed.data.Measurements : parsed.data;
  return Object.fromEntries(
    PCR_NAMES.flatMap((name) => (found[name] === undefined ? [] : [[name, found[name].toLowerCase()]])),
  );
}
