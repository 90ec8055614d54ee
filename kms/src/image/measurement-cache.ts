import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import type { TdxRegisters } from '@dstack-cloud/attestation';
import { fromHex, toHex, utf8, utf8Text } from '@dstack-cloud/encoding';
import { z } from 'zod';

const VERSION = 1;
const MAX_BYTES = 4096;
const register = z.string().regex(/^[0-9a-f]{96}$/);
const schema = z.object({
  version: z.literal(VERSION),
  measurements: z.object({ mrtd: register, rtmr0: register, rtmr1: register, rtmr2: register }),
});

/**
 * Registers that a genuine TD had, as `measurements/<SHA-256 of the key>.json` (docs/protocol/images.md section 5.2).
 * The key has what they depend on; unlike the original's it has the ACPI digests too, since ours are not computed but
 * logged.
 */
export class MeasurementCache {
  readonly #directory: string;
  readonly #onFailure: (error: unknown) => void;

  constructor(directory: string, onFailure: (error: unknown) => void) {
    this.#directory = join(directory, 'measurements');
    this.#onFailure = onFailure;
  }

  /** A file that is missing or unusable is no error: the registers are then computed. */
  async read(key: string): Promise<TdxRegisters | undefined> {
    try {
      const bytes = await readFileBounded(this.#path(key), MAX_BYTES);
      const { mrtd, rtmr0, rtmr1, rtmr2 } = schema.parse(JSON.parse(utf8Text(bytes))).measurements;
      return { mrtd: fromHex(mrtd), rtmr0: fromHex(rtmr0), rtmr1: fromHex(rtmr1), rtmr2: fromHex(rtmr2) };
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'file-missing') this.#onFailure(error);
      return undefined;
    }
  }

  /** That it cannot be written costs time, not safety. */
  async write(key: string, { mrtd, rtmr0, rtmr1, rtmr2 }: TdxRegisters): Promise<void> {
    const measurements = {
      mrtd: toHex(mrtd),
      rtmr0: toHex(rtmr0),
      rtmr1: toHex(rtmr1),
      rtmr2: toHex(rtmr2),
    };
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      await writeFileAtomic(this.#path(key), utf8(JSON.stringify({ version: VERSION, measurements })), {
        mode: 0o600,
      });
    } catch (error) {
      this.#onFailure(error);
    }
  }

  #path(key: string): string {
    return join(this.#directory, `${createHash('sha256').update(key).digest('hex')}.json`);
  }
}
