import { toHex } from '@dstack-cloud/encoding';
import type { CollateralSource, SnpCollateral, SnpCollateralRequest } from '../collateral-source.ts';
import { AttestationError } from '../errors.ts';
import type { SnpProduct } from '../platform-evidence.ts';
import { splitTcb } from '../snp/report.ts';
import { parseCrl } from '../x509/crl.ts';
import { derForm } from '../x509/der-form.ts';
import { boundedGet, type Fetch } from './bounded-fetch.ts';
import { VendorAnswers } from './vendor-answers.ts';

const BASE_URL = 'https://kdsintf.amd.com/vcek/v1';
/** Of chips, whose names the prover chooses, and of products, which are few. */
const MAX_KEPT = { chips: 512, products: 16 };
const MAX_RUNNING = { chips: 64, products: 16 };
const KEEP_SECONDS = 24 * 3600;

export interface AmdKdsOptions {
  /** Default AMD's service. */
  readonly baseUrl?: string;
  readonly fetch?: Fetch;
  /** Unix seconds; default the wall clock. */
  readonly now?: () => number;
  readonly timeoutMs?: number;
}

/**
 * Certificates from AMD's key distribution service, by chip and TCB (docs/protocol/verification.md section 7; AMD
 * 57230).
 */
export function amdKdsCollateral(
  options: AmdKdsOptions = {},
): Required<Pick<CollateralSource, 'snp' | 'settled'>> {
  const base = (options.baseUrl ?? BASE_URL).replace(/\/+$/, '');
  const now = options.now ?? (() => Date.now() / 1000);
  const send: Fetch = options.fetch ?? ((url, init) => fetch(url, init));
  const answersOf = (kind: 'chips' | 'products'): VendorAnswers<Uint8Array> =>
    new VendorAnswers({ now, maxKept: MAX_KEPT[kind], maxRunning: MAX_RUNNING[kind] });
  const [chips, products] = [answersOf('chips'), answersOf('products')];
  const partsOf = new WeakMap<SnpCollateral, readonly Uint8Array[]>();
  const get = async (url: string, read: Reader = (bytes) => ({ value: bytes })) => {
    const { bytes } = await boundedGet(url, send, AbortSignal.timeout(options.timeoutMs ?? 10_000));
    return { end: now() + KEEP_SECONDS, ...read(bytes) };
  };
  return {
    snp: async (request, permit) => {
      const product = `${base}/${request.product}`;
      const url = `${product}/${vcekPath(request)}`;
      const vcek = await chips.get(url, { permit: () => permit?.('amd', 1), fetch: () => get(url) });
      const ofProduct = (name: string, read?: Reader): Promise<Uint8Array> =>
        products.get(`${product}/${name}`, { fetch: () => get(`${product}/${name}`, read) });
      const ask = await ofProduct('cert_chain');
      const crl = await optional(ofProduct('crl', readList));
      const collateral = { ask, vcek, ...(crl ? { crl } : {}) };
      partsOf.set(collateral, [vcek, ask, ...(crl ? [crl] : [])]);
      return collateral;
    },
    settled: async (answer, isGood) => {
      const parts = partsOf.get(answer as SnpCollateral) ?? [];
      const all = [chips, products];
      if (isGood) for (const part of parts) for (const answers of all) answers.good(part);
      // What verified before is not blamed for what came beside it.
      const proven = parts.filter((part) => all.some((answers) => answers.isKept(part)));
      const blamed = proven.length < parts.length ? parts.filter((part) => !proven.includes(part)) : parts;
      if (!isGood) for (const part of blamed) for (const answers of all) answers.bad(part);
    },
  };
}

/** An answer as it is used, and until when. */
type Reader = (bytes: Uint8Array) => { readonly value: Uint8Array; readonly end?: number };

const readList: Reader = (bytes) => {
  const value = derForm(bytes, 'X509 CRL');
  return { value, end: parseCrl(value).nextUpdate };
};

/** Chip id and reported TCB; Turin names chips by 8 bytes and has a further part. */
function vcekPath({ product, chipId, reportedTcb }: SnpCollateralRequest): string {
  const tcb = splitTcb(reportedTcb, product satisfies SnpProduct);
  const chip = toHex(product === 'Turin' ? chipId.subarray(0, 8) : chipId);
  const fmc = tcb.fmc === undefined ? '' : `fmcSPL=${tcb.fmc}&`;
  return `${chip}?${fmc}blSPL=${tcb.bootLoader}&teeSPL=${tcb.tee}&snpSPL=${tcb.snp}&ucodeSPL=${tcb.microcode}`;
}

/**
 * A list that is not served is not there; the chain is then verified without it (docs/protocol/verification.md section
 * 7).
 */
async function optional(request: Promise<Uint8Array>): Promise<Uint8Array | undefined> {
  try {
    return await request;
  } catch (error) {
    if (error instanceof AttestationError && error.code === 'collateral-unavailable') return undefined;
    throw error;
  }
}
