import { decodePemAll, toHex, utf8Text } from '@dstack-cloud/encoding';
import type { CollateralSource, SnpCollateralRequest } from '../collateral-source.ts';
import { LruCache } from '../crypto/lru-cache.ts';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';
import { boundedGet, type Fetch } from '../pcs/bounded-fetch.ts';
import { parseCrl } from '../x509/crl.ts';
import { type SnpProduct, splitTcb } from './report.ts';

const BASE_URL = 'https://kdsintf.amd.com/vcek/v1';
const MAX_KEPT = 512;
const KEEP_SECONDS = 24 * 3600;

export interface AmdKdsOptions {
  /** Default AMD's service. */
  readonly baseUrl?: string;
  readonly fetch?: Fetch;
  /** Unix seconds; default the wall clock. */
  readonly now?: () => number;
  readonly timeoutMs?: number;
}

/** Certificates from AMD's key distribution service, by chip and TCB (chapter 20 section 6.1; AMD 57230). */
export function amdKdsCollateral(options: AmdKdsOptions = {}): Required<Pick<CollateralSource, 'snp'>> {
  const base = (options.baseUrl ?? BASE_URL).replace(/\/+$/, '');
  const now = options.now ?? (() => Date.now() / 1000);
  const send: Fetch = options.fetch ?? ((url, init) => fetch(url, init));
  const kept = new LruCache<{ readonly bytes: Uint8Array; readonly end: number }>(MAX_KEPT);
  const get = async (url: string, end?: (bytes: Uint8Array) => number): Promise<Uint8Array> => {
    const known = kept.get(url);
    if (known && now() < known.end) return known.bytes;
    const { bytes } = await boundedGet(url, send, AbortSignal.timeout(options.timeoutMs ?? 10_000));
    kept.set(url, { bytes, end: end?.(bytes) ?? now() + KEEP_SECONDS });
    return bytes;
  };
  return {
    snp: async (request) => {
      const product = `${base}/${request.product}`;
      const vcek = await get(`${product}/${vcekPath(request)}`);
      const ask = await get(`${product}/cert_chain`).then((bytes) => firstCertificate(bytes));
      const crl = await optional(get(`${product}/crl`, (bytes) => parseCrl(bytes).nextUpdate));
      return { ask, vcek, ...(crl ? { crl } : {}) };
    },
  };
}

/** Chip id and reported TCB; Turin names chips by 8 bytes and has a further part. */
function vcekPath({ product, chipId, reportedTcb }: SnpCollateralRequest): string {
  const tcb = splitTcb(reportedTcb, product satisfies SnpProduct);
  const chip = toHex(product === 'Turin' ? chipId.subarray(0, 8) : chipId);
  const fmc = tcb.fmc === undefined ? '' : `fmcSPL=${tcb.fmc}&`;
  return `${chip}?${fmc}blSPL=${tcb.bootLoader}&teeSPL=${tcb.tee}&snpSPL=${tcb.snp}&ucodeSPL=${tcb.microcode}`;
}

function firstCertificate(pem: Uint8Array): Uint8Array {
  const [ask] = decoding('AMD certificate chain', () => decodePemAll(utf8Text(pem), 'CERTIFICATE'));
  if (!ask) throw new AttestationError('collateral-invalid', 'AMD certificate chain is empty');
  return ask;
}

/** A list that is not served is not there; the chain is then judged without it (chapter 20 section 6.1). */
async function optional(request: Promise<Uint8Array>): Promise<Uint8Array | undefined> {
  try {
    return await request;
  } catch (error) {
    if (error instanceof AttestationError && error.code === 'collateral-unavailable') return undefined;
    throw error;
  }
}
