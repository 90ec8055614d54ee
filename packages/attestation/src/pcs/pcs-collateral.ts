import { toHex, utf8 } from '@dstack-cloud/encoding';
import { defaultCrypto } from '#crypto';
import { openCollateralFiles } from '#files';
import type {
  CollateralSource,
  DcapCollateral,
  DcapCollateralRequest,
  PckCertificateRequest,
} from '../collateral-source.ts';
import { LruCache } from '../crypto/lru-cache.ts';
import { AttestationError } from '../errors.ts';
import { dcapCollateralFromJson, dcapCollateralToJson } from '../tdx/collateral-json.ts';
import type { Fetch } from './bounded-fetch.ts';
import type { CollateralFiles } from './collateral-files.ts';
import { collateralEnd } from './collateral-lifetime.ts';
import { fetchCollateral, fetchPckCertificate, normaliseBaseUrl } from './fetch-collateral.ts';

export interface PcsOptions {
  /** Base URL of Intel's PCS or a PCCS; a trailing `/sgx|tdx/certification/v4` is cut off. */
  readonly baseUrl: string;
  /** Directory for what was fetched, so that it survives a restart; Node only. */
  readonly cacheDir?: string;
  readonly fetch?: Fetch;
  /** Unix seconds; default the wall clock. */
  readonly now?: () => number;
  /** Whole time for one collateral set; default 10 000. */
  readonly timeoutMs?: number;
}

interface Kept<T> {
  readonly value: T;
  /** Unix seconds; not used from then on. */
  readonly end: number;
}

const MAX_SETS = 64;
const MAX_CERTIFICATES = 256;
const MAX_PARALLEL = 16;
const CERTIFICATE_SECONDS = 3600;

/**
 * Client of Intel's PCS v4 or a PCCS (chapter 20 section 3.2). A set is fetched once at a time, kept in memory
 * and in `cacheDir` until the first nextUpdate in it, and never served after that, not even when the service
 * is down.
 * @throws AttestationError `malformed` for a bad URL
 */
export function pcsCollateral(options: PcsOptions): CollateralSource {
  return new PcsSource(options);
}

class PcsSource implements CollateralSource {
  readonly #baseUrl: string;
  readonly #fetch: Fetch;
  readonly #now: () => number;
  readonly #timeoutMs: number;
  readonly #files: CollateralFiles | undefined;
  readonly #sets = new LruCache<Kept<DcapCollateral>>(MAX_SETS);
  readonly #certificates = new LruCache<Kept<string>>(MAX_CERTIFICATES);
  readonly #running = new Map<string, Promise<unknown>>();

  constructor(options: PcsOptions) {
    this.#baseUrl = normaliseBaseUrl(options.baseUrl);
    this.#fetch = options.fetch ?? ((url, init) => fetch(url, init));
    this.#now = options.now ?? (() => Date.now() / 1000);
    this.#timeoutMs = options.timeoutMs ?? 10_000;
    this.#files = options.cacheDir === undefined ? undefined : openCollateralFiles(options.cacheDir);
  }

  /** True for what is kept in memory; files are read on the way to a fetch, which is not worth a shortcut. */
  atHand(request: DcapCollateralRequest): boolean {
    const kept = this.#sets.get(this.#key(request));
    return kept !== undefined && this.#now() < kept.end;
  }

  async tdx(request: DcapCollateralRequest): Promise<DcapCollateral> {
    const key = this.#key(request);
    const kept = this.#sets.get(key);
    if (kept && this.#now() < kept.end) return kept.value;
    return this.#once(key, async () => {
      const stored = await this.#load(key);
      if (stored && this.#now() < stored.end) {
        this.#sets.set(key, stored);
        return stored.value;
      }
      const value = await fetchCollateral(request, this.#connection());
      const end = collateralEnd(value);
      // What is out of date already is handed on, so that the verdict names it, but never kept.
      if (this.#now() < end) {
        this.#sets.set(key, { value, end });
        await this.#files?.write(key, JSON.stringify(dcapCollateralToJson(value)));
      }
      return value;
    });
  }

  async pckCertificate(request: PckCertificateRequest): Promise<string> {
    const key = JSON.stringify([
      toHex(request.qeId),
      toHex(request.encryptedPpid),
      toHex(request.cpuSvn),
      request.pceSvn,
      toHex(request.pceId),
    ]);
    const kept = this.#certificates.get(key);
    if (kept && this.#now() < kept.end) return kept.value;
    return this.#once(key, async () => {
      const value = await fetchPckCertificate(request, this.#connection());
      this.#certificates.set(key, { value, end: this.#now() + CERTIFICATE_SECONDS });
      return value;
    });
  }

  /** Drops a set that turned out not to be authentic, so that the next verification fetches it anew. */
  async forget(request: DcapCollateralRequest): Promise<void> {
    const key = this.#key(request);
    this.#sets.delete(key);
    await this.#files?.remove(key);
  }

  async #load(key: string): Promise<Kept<DcapCollateral> | undefined> {
    const text = await this.#files?.read(key);
    if (text === undefined) return undefined;
    try {
      const value = dcapCollateralFromJson(JSON.parse(text));
      return { value, end: collateralEnd(value) };
    } catch {
      // Half a file, or another version's: fetched anew and written over.
      return undefined;
    }
  }

  /** Concurrent callers share one run; at most a few different runs at once. */
  #once<T>(key: string, run: () => Promise<T>): Promise<T> {
    const running = this.#running.get(key);
    if (running) return running as Promise<T>;
    if (this.#running.size >= MAX_PARALLEL) {
      throw new AttestationError('collateral-unavailable', 'Too many collateral requests at once; try again');
    }
    const promise = run().finally(() => this.#running.delete(key));
    this.#running.set(key, promise);
    return promise;
  }

  #connection() {
    return { baseUrl: this.#baseUrl, fetch: this.#fetch, signal: AbortSignal.timeout(this.#timeoutMs) };
  }

  /** Also a file name. */
  #key({ tee, fmspc, ca }: DcapCollateralRequest): string {
    if (!/^[0-9a-fA-F]{12}$/.test(fmspc)) {
      throw new AttestationError('malformed', 'FMSPC is not 6 bytes of hex', { found: fmspc });
    }
    const source = toHex(defaultCrypto.hash('sha256', utf8(this.#baseUrl))).slice(0, 16);
    return `${source}-${tee}-${fmspc.toLowerCase()}-${ca}.json`;
  }
}
