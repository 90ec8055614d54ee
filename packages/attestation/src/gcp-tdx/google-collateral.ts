import { encodePem, toHex } from '@dstack-cloud/encoding';
import { boundedGet, type Fetch } from '../collateral/bounded-fetch.ts';
import { VendorAnswers } from '../collateral/vendor-answers.ts';
import type {
  CollateralSource,
  FetchPermit,
  TpmCollateral,
  TpmCollateralRequest,
} from '../collateral-source.ts';
import { AttestationError } from '../errors.ts';
import { type Certificate, parseCertificate } from '../x509/certificate.ts';
import { parseCrl } from '../x509/crl.ts';
import { derForm } from '../x509/der-form.ts';
import { isGoogleCaUrl } from './google-hosts.ts';

const ENDORSEMENT_URL = 'https://storage.googleapis.com/gce_tcb_integrity/ovmf_x64_csm/tdx';
/** Leaf, intermediate, root and one to spare (docs/protocol/verification.md section 4 step 10). */
const MAX_CERTIFICATES = 4;
const MAX_KEPT = 256;
const MAX_RUNNING = 64;
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
  /** Base URL of the service to ask instead of this machine: for test roots, in guests of the machine that is meant. */
  readonly loopbackAt?: string;
  /** Where firmware endorsements lie; default Google's bucket. */
  readonly endorsementUrl?: string;
}

/**
 * Follows an attestation key's certificate to its issuers, and fetches the revocation list of every certificate
 * that names one. The certificates say where, and nothing is verified yet: so only Google's CA hosts are asked,
 * at most four certificates deep, with bounds on time and size (docs/protocol/verification.md section 4 step 10).
 */
export function googleTpmCollateral(
  options: GoogleCollateralOptions = {},
): Required<Pick<CollateralSource, 'tpm' | 'settled'>> {
  const source = new GoogleSource(options);
  return {
    tpm: (request, permit) => source.tpm(request, permit),
    settled: (answer, isGood) => source.settled(answer, isGood),
  };
}

/** What one request asks with. */
interface Asking {
  readonly signal: AbortSignal;
  readonly permit: (() => void) | undefined;
  /** Everything that it got. */
  readonly parts: Uint8Array[];
}

class GoogleSource {
  readonly #options: GoogleCollateralOptions;
  readonly #fetch: Fetch;
  readonly #now: () => number;
  readonly #answers: VendorAnswers<Uint8Array>;
  readonly #partsOf = new WeakMap<object, readonly Uint8Array[]>();

  constructor(options: GoogleCollateralOptions) {
    this.#options = options;
    this.#fetch = options.fetch ?? ((url, init) => fetch(url, init));
    this.#now = options.now ?? (() => Date.now() / 1000);
    this.#answers = new VendorAnswers({ now: this.#now, maxKept: MAX_KEPT, maxRunning: MAX_RUNNING });
  }

  async tpm(request: TpmCollateralRequest, permit?: FetchPermit): Promise<TpmCollateral> {
    const asking: Asking = {
      signal: AbortSignal.timeout(this.#options.timeoutMs ?? 10_000),
      permit: permit && (() => permit('google', 1)),
      parts: [],
    };
    const chain = await this.#walk(parseCertificate(request.akCert), asking);
    const crls: Uint8Array[] = [];
    for (const certificate of chain) {
      const [url] = certificate.crlUrls;
      if (url !== undefined) crls.push(await this.#get(this.#allowed(url), asking, readCrl));
    }
    const endorsement = request.mrtd ? await this.#endorsement(request.mrtd, asking) : undefined;
    const collateral: TpmCollateral = {
      certChainPem: chain
        .slice(1)
        .map(({ der }) => encodePem('CERTIFICATE', der))
        .join(''),
      crls,
      ...(endorsement ? { firmwareEndorsement: endorsement } : {}),
    };
    this.#partsOf.set(collateral, asking.parts);
    return collateral;
  }

  /** What is bad is not kept, and that is all: the key's certificate chose what to ask for. */
  async settled(answer: object, isGood: boolean): Promise<void> {
    if (isGood) for (const part of this.#partsOf.get(answer) ?? []) this.#answers.good(part);
  }

  /** Leaf first; ends at a self-signed certificate or one that names no issuer. */
  async #walk(leaf: Certificate, asking: Asking): Promise<Certificate[]> {
    const chain = [leaf];
    for (;;) {
      const [url] = chain.at(-1)!.issuerUrls;
      if (url === undefined) return chain;
      const issuer = parseCertificate(await this.#get(this.#allowed(url), asking, readCertificate));
      if (chain.length >= MAX_CERTIFICATES) {
        throw new AttestationError('too-large', `More than ${MAX_CERTIFICATES} certificates above the key`);
      }
      chain.push(issuer);
      if (toHex(issuer.subject) === toHex(issuer.issuer)) return chain;
    }
  }

  async #endorsement(mrtd: Uint8Array, asking: Asking): Promise<Uint8Array | undefined> {
    const base = this.#options.endorsementUrl ?? ENDORSEMENT_URL;
    return this.#get(`${base}/${toHex(mrtd)}.binarypb`, asking, (bytes) => ({ value: bytes }));
  }

  #allowed(url: string): string {
    const { extraHosts = [], allowLoopback = false, loopbackAt } = this.#options;
    if (isGoogleCaUrl(url, extraHosts)) return url;
    if (isGoogleCaUrl(url, extraHosts, allowLoopback))
      return loopbackAt === undefined ? url : new URL(new URL(url).pathname, loopbackAt).href;
    throw new AttestationError('chain-invalid', 'The certificate points to a host that is not allowed', {
      check: 'tpm.ak-urls',
      expected: 'http://privateca-content-….storage.googleapis.com/…',
      found: url.slice(0, 200),
    });
  }

  async #get(url: string, { signal, permit, parts }: Asking, read: Reader): Promise<Uint8Array> {
    const part = await this.#answers.get(url, {
      permit,
      fetch: async () => {
        const { bytes } = await boundedGet(url, this.#fetch, signal);
        const { value, end = Number.POSITIVE_INFINITY } = read(bytes);
        return { value, end: Math.min(end, this.#now() + KEEP_SECONDS) };
      },
    });
    parts.push(part);
    return part;
  }
}

/** An answer as it is used, and until when. */
type Reader = (bytes: Uint8Array) => { readonly value: Uint8Array; readonly end?: number };

function readCertificate(bytes: Uint8Array): ReturnType<Reader> {
  return { value: derForm(bytes, 'CERTIFICATE') };
}

function readCrl(bytes: Uint8Array): ReturnType<Reader> {
  const value = derForm(bytes, 'X509 CRL');
  return { value, end: parseCrl(value).nextUpdate };
}
