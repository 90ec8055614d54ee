import { createHash, type Hash } from 'node:crypto';
import { concatBytes, toHex } from '@dstack-cloud/encoding';
import type { SectionName } from '../format/sections.ts';
import { type HashLane, sha384Lane } from './hash-lane.ts';

/** Registers of an enclave, 48 bytes each (docs/protocol/images.md section 6.3). */
export interface Pcrs {
  /** Everything that runs. */
  readonly pcr0: Uint8Array;
  /** Kernel, command line, first ramdisk. */
  readonly pcr1: Uint8Array;
  /** The other ramdisks. */
  readonly pcr2: Uint8Array;
}

/** Takes the payloads of a file's sections in the order in which they stand. */
export class PcrHasher {
  readonly #all: Hash = createHash('sha384');
  readonly #boot: Hash = createHash('sha384');
  readonly #application: HashLane;
  #ramdisks = 0;

  /** @param size about how much will come */
  constructor(size: number) {
    this.#application = sha384Lane(size);
  }

  /** What to call for each piece of this section's payload. */
  section(name: SectionName): (piece: Uint8Array) => Promise<void> {
    if (name === 'signature' || name === 'metadata') return async () => undefined;
    const isApplication = name === 'ramdisk' && this.#ramdisks++ > 0;
    return async (piece) => {
      // The other thread first, so that both work at once.
      if (isApplication) await this.#application.update(piece);
      else this.#boot.update(piece);
      this.#all.update(piece);
    };
  }

  async digest(): Promise<Pcrs> {
    const pcr2 = extended(await this.#application.digest());
    return { pcr0: extended(this.#all.digest()), pcr1: extended(this.#boot.digest()), pcr2 };
  }

  async close(): Promise<void> {
    await this.#application.close();
  }
}

/** A register after one extension: SHA-384(48 zero bytes ‖ digest). */
function extended(digest: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha384').update(new Uint8Array(48)).update(digest).digest());
}

/** PCR 8, of the DER of the signing certificate. */
export function signerPcr(der: Uint8Array): Uint8Array {
  return extended(createHash('sha384').update(der).digest());
}

/** SHA-256 over the raw bytes of PCR 0, 1 and 2 (docs/protocol/verification.md section 8.3), hex. */
export function osImageHash({ pcr0, pcr1, pcr2 }: Pcrs): string {
  return toHex(
    new Uint8Array(
      createHash('sha256')
        .update(concatBytes(pcr0, pcr1, pcr2))
        .digest(),
    ),
  );
}
