import { toHex, utf8 } from '@dstack-cloud/encoding';
import { defaultCrypto } from '#crypto';
import { openCollateralFiles } from '#files';
import type {
  CollateralSource,
  DcapCollateral,
  DcapCollateralRequest,
  FetchPermit,
  PckCertificateRequest,
} from '../collateral-source.ts';
import { AttestationError } from '../errors.ts';
import { dcapCollateralFromJson, dcapCollateralToJson } from '../tdx/collateral-json.ts';
import type { Fetch } from './bounded-fetch.ts';
import type { CollateralFiles } from './collateral-files.ts';
import { collateralEnd } from './collateral-lifetime.ts';
import { fetchCollateral, fetchPckCertificate, normaliseBaseUrl } from './fetch-collateral.ts';
import { type Dated, VendorAnswers } from './vendor-answers.ts';

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

const MAX_SETS = 64;
/** Each kind of request has places of its own: what one kind waits for never holds up the other. */
const MAX_RUNNING = { sets: 16, certificates: 8 };
/** Requests to the service for one collateral set. */
const REQUESTS_OF_SET = 4;

/**
 * Client of Intel's PCS v4 or a PCCS. A set is fetched once at a time. One that verified is
 * kept in memory and in `cacheDir` until the first nextUpdate in it, and never served after that, not even when the
 * service is down.
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
  readonly #sets: VendorAnswers<DcapCollateral>;
  readonly #certificates = new Map<string, Promise<string>>();

  constructor(options: PcsOptions) {
    this.#baseUrl = normaliseBaseUrl(options.baseUrl);
    this.#fetch = options.fetch ?? ((url, init) => fetch(url, init));
    this.#now = options.now ?? (() => Date.now() / 1000);
    this.#timeoutMs = options.timeoutMs ?? 10_000;
    this.#files = options.cacheDir === undefined ? undefined : openCollateralFiles(options.cacheDir);
    this.#sets = new VendorAnswers({ now: this.#now, maxKept: MAX_SETS, maxRunning: MAX_RUNNING.sets });
  }

  /** True for what is kept in memory; files are read on the way to a fetch, which is not worth a shortcut. */
  atHand(request: DcapCollateralRequest): boolean {
    return this.#sets.kept(this.#key(request)) !== undefined;
  }

  async tdx(request: DcapCollateralRequest, permit?: FetchPermit): Promise<DcapCollateral> {
    const key = this.#key(request);
    return this.#sets.get(key, {
      ...(this.#files && { load: () => this.#load(key) }),
      permit: () => permit?.('intel', REQUESTS_OF_SET),
      fetch: async () => {
        const value = await fetchCollateral(request, this.#connection());
        // What is out of date already is handed on, so that the result names it.
        return { value, end: collateralEnd(value) };
      },
    });
  }

  async settled(answer: object, isGood: boolean): Promise<void> {
    const set = answer as DcapCollateral;
    const kept = isGood ? this.#sets.good(set) : undefined;
    if (kept) await this.#files?.write(kept.key, JSON.stringify(dcapCollateralToJson(kept.value)));
    const dropped = isGood ? undefined : this.#sets.bad(set);
    if (dropped !== undefined) await this.#files?.remove(dropped);
  }

  /** Concurrent callers share one request. It is not kept: what it is worth is known with the quote alone. */
  async pckCertificate(request: PckCertificateRequest, permit?: FetchPermit): Promise<string> {
    const key = JSON.stringify([
      toHex(request.qeId),
      toHex(request.encryptedPpid),
      toHex(request.cpuSvn),
      request.pceSvn,
      toHex(request.pceId),
    ]);
    const running = this.#certificates.get(key);
    if (running) return running;
    if (this.#certificates.size >= MAX_RUNNING.certificates) {
      throw new AttestationError('collateral-unavailable', 'Too many collateral requests at once; try again');
    }
    permit?.('intel', 1);
    const promise = fetchPckCertificate(request, this.#connection()).finally(() =>
      this.#certificates.delete(key),
    );
    this.#certificates.set(key, promise);
    return promise;
  }

  async #load(key: string): Promise<Dated<DcapCollateral> | undefined> {
    const text = await this.#files?.read(key);
    if (text === undefined) return undefined;
    try {
      const value = dcapCollateralFromJson(JSON.parse(text));
      return { value, end: collateralEnd(value) };
    } catch {
      // Half a file, or another version's: fetched again and overwritten.
      return undefined;
    }
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
