import { encodePem, toHex } from '@dstack-cloud/encoding';
import type { CollateralSource, TpmCollateral, TpmCollateralRequest } from '../collateral-source.ts';
import { LruCache } from '../crypto/lru-cache.ts';
import { AttestationError } from '../errors.ts';
import { boundedGet, type Fetch } from '../pcs/bounded-fetch.ts';
import { type Certificate, parseCertificate } from '../x509/certificate.ts';
import { parseCrl } from '../x509/crl.ts';
import { isGoogleCaUrl } from './google-hosts.ts';

const ENDORSEMENT_URL = 'https://storage.googleapis.com/gce_tcb_integrity/ovmf_x64_csm/tdx';
/** Leaf, intermediate, root and one to spare (chapter 20 section 4.4). */
const MAX_CERTIFICATES = 4;
const MAX_KEPT = 256;
/** Not longer, as answers come over plain HTTP: what a man in the middle put in is gone after that. */
const KEEP_SECONDS = 3600;

export interface GoogleCollateralOptions {
  readonly fetch?: Fetch;
  /** Unix seconds; default the wall clock. */
  readonly now?: () => number;
  /** Whole time for one quote; default 10 000. */
  readonly timeoutMs?: number;
  /** Hosts (with port) allowed besides Google's CA service: for test roots. */
  readonly extraHosts?: readonly string[];
  /** Allow every port of this machine as well: for test roots. */
  readonly allowLoopback?: boolean;
  /** Where firmware endorsements lie; default Google's bucket. */
  readonly endorsementUrl?: string;
}

/**
 * Follows an attestation key's certificate to its issuers, and fetches the revocation list of every certificate
 * that names one. The certificates say where, and nothing is verified yet: so only Google's CA hosts are asked,
 * at most four certificates deep, with bounds on time and size (chapter 20 section 4.4, section 10 point 7).
 */
export function googleTpmCollateral(
  options: GoogleCollateralOptions = {},
): Required<Pick<CollateralSource, 'tpm'>> {
  const source = new GoogleSource(options);
  return { tpm: (request) => source.tpm(request) };
}

interface Kept {
  readonly bytes: Uint8Array;
  /** Unix seconds. */
  readonly end: number;
}

class GoogleSource {
  readonly #options: GoogleCollateralOptions;
  readonly #fetch: Fetch;
  readonly #now: () => number;
  readonly #kept = new LruCache<Kept>(MAX_KEPT);
  readonly #running = new Map<string, Promise<Uint8Array>>();

  constructor(options: GoogleCollateralOptions) {
    this.#options = options;
    this.#fetch = options.fetch ?? ((url, init) => fetch(url, init));
    this.#now = options.now ?? (() => Date.now() / 1000);
  }

  async tpm(request: TpmCollateralRequest): Promise<TpmCollateral> {
    const signal = AbortSignal.timeout(this.#options.timeoutMs ?? 10_000);
    const chain = await this.#walk(parseCertificate(request.akCert), signal);
    const crls: Uint8Array[] = [];
    for (const certificate of chain) {
      const [url] = certificate.crlUrls;
      if (url !== undefined) crls.push(await this.#get(this.#allowed(url), signal, crlEnd));
    }
    const endorsement = request.mrtd ? await this.#endorsement(request.mrtd, signal) : undefined;
    return {
      certChainPem: chain
        .slice(1)
        .map(({ der }) => encodePem('CERTIFICATE', der))
        .join(''),
      crls,
      ...(endorsement ? { firmwareEndorsement: endorsement } : {}),
    };
  }

  /** Leaf first; ends at a self-signed certificate or one that names no issuer. */
  async #walk(leaf: Certificate, signal: AbortSignal): Promise<Certificate[]> {
    const chain = [leaf];
    for (;;) {
      const [url] = chain.at(-1)!.issuerUrls;
      if (url === undefined) return chain;
      const issuer = parseCertificate(await this.#get(this.#allowed(url), signal));
      if (chain.length >= MAX_CERTIFICATES) {
        throw new AttestationError('too-large', `More than ${MAX_CERTIFICATES} certificates above the key`);
      }
      chain.push(issuer);
      if (toHex(issuer.subject) === toHex(issuer.issuer)) return chain;
    }
  }

  async #endorsement(mrtd: Uint8Array, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const base = this.#options.endorsementUrl ?? ENDORSEMENT_URL;
    return this.#get(`${base}/${toHex(mrtd)}.binarypb`, signal);
  }

  #allowed(url: string): string {
    const { extraHosts = [], allowLoopback = false } = this.#options;
    if (isGoogleCaUrl(url, extraHosts, allowLoopback)) return url;
    throw new AttestationError('chain-invalid', 'The certificate points to a host that is not allowed', {
      check: 'tpm.ak-urls',
      expected: 'http://privateca-content-….storage.googleapis.com/…',
      found: url.slice(0, 200),
    });
  }

  /** Concurrent callers share one request; answers are kept until their end. */
  async #get(url: string, signal: AbortSignal, end?: (bytes: Uint8Array) => number): Promise<Uint8Array> {
    const kept = this.#kept.get(url);
    if (kept && this.#now() < kept.end) return kept.bytes;
    const running = this.#running.get(url);
    if (running) return running;
    const promise = boundedGet(url, this.#fetch, signal)
      .then(({ bytes }) => {
        const latest = this.#now() + KEEP_SECONDS;
        this.#kept.set(url, { bytes, end: Math.min(end?.(bytes) ?? latest, latest) });
        return bytes;
      })
      .finally(() => this.#running.delete(url));
    this.#running.set(url, promise);
    return promise;
  }
}

function crlEnd(bytes: Uint8Array): number {
  return parseCrl(bytes).nextUpdate;
}
