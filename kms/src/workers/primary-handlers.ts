import { toBase64 } from '@dstack-cloud/encoding';
import type { ConfiguredFiles } from '../config/configured-files.ts';
import type { Kms } from '../kms.ts';
import type { SharedRateLimits } from '../limits/rate-limits.ts';
import { type HandlersOf, toWire } from './link.ts';
import type { PrimaryMethods } from './protocol.ts';
import { writeKeys } from './write-keys.ts';

/** What the primary serves with. */
export type Primary = {
  readonly kms: Kms;
  readonly limits: SharedRateLimits;
  readonly files: ConfiguredFiles;
  /** RPC certificate now in use, DER. */
  readonly certificate: Uint8Array;
};

/** What the workers do to one of them. */
export type WorkerEvents = Pick<
  HandlersOf<PrimaryMethods>,
  'serving' | 'took' | 'failed' | 'taken' | 'currentKeys'
>;

/**
 * What one worker may ask of the primary.
 * @param ready the primary, once there are keys
 */
export function primaryHandlers(
  number: number,
  ready: Promise<Primary>,
  events: WorkerEvents,
): HandlersOf<PrimaryMethods> {
  const kms = async (): Promise<Kms> => (await ready).kms;
  const audit = async (): Promise<Kms['audit']> => (await kms()).audit;
  return {
    start: async () => {
      const { kms: primary, limits, files, certificate } = await ready;
      return {
        number,
        config: primary.config,
        files,
        keys: writeKeys(primary.keys),
        certificate: toBase64(certificate),
        levels: limits.levels(),
        currentKeys: primary.currentKeys.all(),
      };
    },
    record: async (entries) => {
      const { write } = await audit();
      return Promise.all(entries.map((entry) => write(entry).then(() => null, toWire)));
    },
    head: async () => (await audit()).head(),
    inclusionProof: async ([seq, size]) => (await audit()).inclusionProof(seq, size),
    consistencyProof: async ([first, second]) => (await audit()).consistencyProof(first, second),
    records: async ([from, limit]) => (await audit()).records(from, limit),
    obtainImage: async (hash) => {
      await (await kms()).images.obtain(hash);
      return null;
    },
    clearImages: async (keys) => {
      await (await kms()).images.clear(keys);
      return null;
    },
    exposition: async () => (await kms()).service.exposition(),
    workers: async () => (await kms()).service.workers(),
    ...events,
  };
}
