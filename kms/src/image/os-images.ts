import {
  measureTdxImage,
  type TdxImageParts,
  type TdxRegisterRequest,
  type TdxRegisters,
  type VerifiedAttestation,
  verifyOsImage,
} from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { errorChain, withTimeout } from '@dstack-cloud/runtime';
import type { KmsConfig } from '../config/kms-config.ts';
import { KmsError } from '../errors.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { clearImageCache } from './clear-image-cache.ts';
import { ImageCache } from './image-cache.ts';
import { MeasurementCache } from './measurement-cache.ts';
import type { Fetch } from './resumable-download.ts';
import { SingleFlight } from './single-flight.ts';

/**
 * OS images of TDs on bare metal whose evidence carries no measurement document (docs/protocol/images.md section 5.2).
 */
export type OsImages = {
  /**
   * That evidence is of the image which it names.
   * @throws AttestationError, KmsError `image-unavailable`, also while a download takes longer than the answer may
   */
  check(verified: VerifiedAttestation): Promise<void>;
  /** Removes cached images and measurements, and forgets failures. @throws RpcError */
  clear(keys: CachedKeys): Promise<void>;
  /** Returns when an image is in the cache, checked. @throws KmsError */
  obtain(hash: string): Promise<void>;
  /** Forgets failures: the next request tries at once. */
  forget(): void;
  /** Ends downloads; what they had written is removed. */
  close(): Promise<void>;
};

/** Hashes in hex; empty means none, `all` means all. */
export type CachedKeys = { readonly imageHash: string; readonly configHash: string };

/** The process that downloads and clears for this one. */
export type ImageKeeper = Pick<OsImages, 'obtain' | 'clear'>;

export type OsImagesOptions = {
  readonly keeper?: ImageKeeper;
  readonly metrics: Pick<Metrics, 'imageCacheHits' | 'imageCacheMisses'>;
  readonly log: Log;
  readonly fetch?: Fetch;
  /** Milliseconds that never go back. */
  readonly clock?: () => number;
  /** A caller is answered after so many milliseconds; the download goes on, and the next call finds its result. */
  readonly answerMs?: number;
};

/** Guests give up after a minute. */
const ANSWER_MS = 50_000;
const DOWNLOADS_AT_ONCE = 2;
const FIRST_RETRY_MS = 5_000;
const MAX_RETRY_MS = 600_000;

export function openOsImages({ core: { image } }: KmsConfig, options: OsImagesOptions): OsImages {
  const { metrics, log, keeper, fetch = globalThis.fetch, answerMs = ANSWER_MS } = options;
  const closing = new AbortController();
  const underWay = new Set<Promise<unknown>>();
  const cache = new ImageCache({
    directory: image.cache_dir,
    urlTemplate: image.download_url,
    timeoutMs: image.download_timeout * 1000,
    maxDownloadBytes: image.max_download_size,
    maxUnpackedBytes: image.max_unpacked_size,
    fetch,
    ...(keeper !== undefined && { obtain: (hash) => keeper.obtain(hash) }),
    onLookup: (result) => (result === 'hit' ? metrics.imageCacheHits : metrics.imageCacheMisses).inc(),
    onDamaged: (hash, error) =>
      log.warn({ os_image_hash: hash, error: errorChain(error) }, 'cached OS image is damaged'),
  });
  const measurements = new MeasurementCache(image.cache_dir, (error) =>
    log.warn({ error: errorChain(error) }, 'measurement cache failed'),
  );
  const flight = new SingleFlight<TdxImageParts>({
    limit: DOWNLOADS_AT_ONCE,
    busy: () => new KmsError('image-unavailable', 'Other images are being downloaded; try again'),
    firstMs: FIRST_RETRY_MS,
    maxMs: MAX_RETRY_MS,
    ...(options.clock !== undefined && { clock: options.clock }),
  });

  const partsOf = (hash: string): Promise<TdxImageParts> =>
    flight.run(hash, async () => {
      const work = cache.parts(hash, closing.signal);
      underWay.add(work);
      try {
        return await work;
      } catch (error) {
        // The keeper has said and logged what failed.
        if (keeper !== undefined && error instanceof KmsError) throw error;
        const url = image.download_url.replaceAll('{OS_IMAGE_HASH}', hash);
        log.warn({ os_image_hash: hash, url, error: errorChain(error) }, 'OS image could not be had');
        const context = `Failed to download image ${hash}`;
        const code = error instanceof KmsError ? error.code : 'image-unavailable';
        const reason = error instanceof KmsError ? error.message : 'it cannot be read';
        throw new KmsError(code, `${context}: ${reason}`, { cause: error });
      } finally {
        underWay.delete(work);
      }
    });

  async function registersOf({
    osImageHash,
    memory,
    key,
    compute,
  }: TdxRegisterRequest): Promise<TdxRegisters> {
    const known = await measurements.read(key);
    if (known !== undefined) {
      metrics.imageCacheHits.inc();
      return known;
    }
    const parts = await inTime(partsOf(toHex(osImageHash)), answerMs);
    return compute(measureTdxImage(parts, memory));
  }

  return {
    async check(verified) {
      let found: { key: string; registers: TdxRegisters } | undefined;
      await verifyOsImage(verified, {
        tdxRegisters: async (request) => {
          const registers = await registersOf(request);
          found = { key: request.key, registers };
          return registers;
        },
      });
      // Only what a genuine TD had is kept: whoever sends configurations at random fills no disk.
      if (found !== undefined) await measurements.write(found.key, found.registers);
    },
    async clear(keys) {
      await (keeper === undefined ? clearImageCache(image.cache_dir, keys) : keeper.clear(keys));
      flight.forget();
    },
    obtain: async (hash) => {
      await partsOf(hash);
    },
    forget: () => flight.forget(),
    async close() {
      closing.abort();
      await Promise.allSettled(underWay);
    },
  };
}

function inTime<T>(work: Promise<T>, milliseconds: number): Promise<T> {
  const late = () => new KmsError('image-unavailable', 'The OS image is still being downloaded; try again');
  return withTimeout(work, milliseconds, late);
}
