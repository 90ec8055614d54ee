import type { CollateralSource } from '../collateral-source.ts';
import { LruCache } from '../crypto/lru-cache.ts';
import { AttestationError } from '../errors.ts';
import { parseCrl } from '../x509/crl.ts';
import { boundedGet, type Fetch } from './bounded-fetch.ts';

/** Hosts that the certificates of AWS Nitro and AMD name for their lists. */
const HOSTS: readonly RegExp[] = [
  /^(aws-nitro-enclaves-crl|crl-[a-z0-9-]{1,40}-aws-nitro-enclaves)\.s3(\.[a-z0-9-]{1,40})?\.amazonaws\.com$/,
  /^kdsintf\.amd\.com$/,
];
const MAX_KEPT = 128;
/** Lists are kept until nextUpdate, but not longer than this: plain HTTP may have been tampered with. */
const KEEP_SECONDS = 3600;
/** A list that is not served (Amazon answers 403 to most) is not asked for again at once. */
const RETRY_SECONDS = 600;

export interface VendorCrlOptions {
  readonly fetch?: Fetch;
  /** Unix seconds; default the wall clock. */
  readonly now?: () => number;
  /** Default 3000: these lists are optional, and must not hold up a verdict. */
  readonly timeoutMs?: number;
}

interface Kept {
  readonly answer: Uint8Array | AttestationError;
  readonly end: number;
}

/** Revocation lists of platforms where they are optional, from the vendors' hosts alone. */
export function vendorCrls(options: VendorCrlOptions = {}): Required<Pick<CollateralSource, 'crl'>> {
  const now = options.now ?? (() => Date.now() / 1000);
  const send: Fetch = options.fetch ?? ((url, init) => fetch(url, init));
  const kept = new LruCache<Kept>(MAX_KEPT);

  async function ask(url: string): Promise<Kept> {
    try {
      const signal = AbortSignal.timeout(options.timeoutMs ?? 3000);
      const { bytes } = await boundedGet(url, send, signal);
      return { answer: bytes, end: Math.min(parseCrl(bytes).nextUpdate, now() + KEEP_SECONDS) };
    } catch (error) {
      if (!(error instanceof AttestationError)) throw error;
      return { answer: error, end: now() + RETRY_SECONDS };
    }
  }

  return {
    crl: async (url) => {
      if (!isVendorUrl(url)) {
        throw new AttestationError(
          'collateral-unavailable',
          'The revocation list is on a host that is not asked',
          {
            found: url.slice(0, 200),
          },
        );
      }
      const known = kept.get(url);
      const entry = known && now() < known.end ? known : await ask(url);
      kept.set(url, entry);
      if (entry.answer instanceof AttestationError) throw entry.answer;
      return entry.answer;
    },
  };
}

function isVendorUrl(text: string): boolean {
  if (text.length > 512 || !URL.canParse(text)) return false;
  const { protocol, hostname, port, username } = new URL(text);
  const plain = (protocol === 'http:' || protocol === 'https:') && port === '' && username === '';
  return plain && HOSTS.some((host) => host.test(hostname));
}
