import { ByteWriter } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import type { Tpm } from './tpm.ts';
import { BANKS, type PcrBank } from './tpm-constants.ts';
import { EMPTY_PASSWORD } from './tpm-session.ts';
import { pcrSelection, readPcrSelection, take2b } from './tpm-structures.ts';

/** A TPM gives at most this many digests a call. */
const DIGESTS_PER_READ = 8;
const MAX_READS = 8;
const CONSISTENT_TRIES = 3;

export interface PcrReading {
  readonly index: number;
  readonly value: Uint8Array;
}

/**
 * Values of PCRs of one bank, ascending, all of the same moment: read again when a register changed meanwhile.
 * @throws AttestationError `device` when the bank or a register does not exist, or registers keep changing
 */
export async function readPcrs(tpm: Tpm, bank: PcrBank, pcrs: readonly number[]): Promise<PcrReading[]> {
  for (let tries = 1; tries <= CONSISTENT_TRIES; tries++) {
    const readings = await readOnce(tpm, bank, pcrs);
    if (readings) return readings;
  }
  throw new AttestationError('device', 'PCRs keep changing while they are read');
}

async function readOnce(tpm: Tpm, bank: PcrBank, pcrs: readonly number[]): Promise<PcrReading[] | undefined> {
  const wanted = new Set(pcrs);
  const readings: PcrReading[] = [];
  let firstCounter: number | undefined;
  for (let reads = 0; wanted.size > 0; reads++) {
    const { parameters } = await tpm.execute({
      code: 'pcrRead',
      parameters: pcrSelection(bank, [...wanted].sort((a, b) => a - b).slice(0, DIGESTS_PER_READ)),
    });
    const counter = parameters.u32be();
    firstCounter ??= counter;
    if (counter !== firstCounter) return undefined;
    const given = readPcrSelection(parameters, bank);
    const count = parameters.u32be();
    if (count !== given.length || count === 0 || reads > MAX_READS) {
      throw new AttestationError('device', `The TPM has not all PCRs ${[...wanted].join(', ')} in ${bank}`);
    }
    for (const index of given) {
      const value = take2b(parameters);
      if (value.length !== BANKS[bank].size || !wanted.delete(index)) {
        throw new AttestationError('device', `The TPM gave PCR ${index} unasked or in another size`);
      }
      readings.push({ index, value: value.slice() });
    }
    parameters.finish();
  }
  return readings.sort((a, b) => a.index - b.index);
}

/** PCR = H(PCR ‖ digest), in the banks given and no other. @throws AttestationError `device` */
export async function extendPcr(
  tpm: Tpm,
  index: number,
  digests: Readonly<Partial<Record<PcrBank, Uint8Array>>>,
): Promise<void> {
  const given = Object.entries(digests) as [PcrBank, Uint8Array][];
  const parameters = new ByteWriter().u32be(given.length);
  for (const [bank, digest] of given) {
    if (digest.length !== BANKS[bank].size) {
      throw new AttestationError('malformed', `A ${bank} bank takes ${BANKS[bank].size}-byte digests`);
    }
    parameters.u16be(BANKS[bank].id).bytes(digest);
  }
  await tpm.execute({
    code: 'pcrExtend',
    handles: [index],
    authorisations: [EMPTY_PASSWORD],
    parameters: parameters.finish(),
  });
}
