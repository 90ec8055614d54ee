import type { CollateralSource } from '../collateral-source.ts';
import { AttestationError } from '../errors.ts';
import { parseCrl } from '../x509/crl.ts';
import { derForm } from '../x509/der-form.ts';
import { boundedGet, type Fetch } from './bounded-fetch.ts';
import { VendorAnswers } from './vendor-answers.ts';

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
  /** Default 3000: these lists are optional, and must not delay a result. */
  readonly timeoutMs?: number;
}

/**
 * Revocation lists of platforms where they are optional, from the vendors' hosts alone. The addresses come from chains
 * that verified, so there are few of them; nobody who shows evidence can use up what others may ask for.
 */
export function vendorCrls(
  options: VendorCrlOptions = {},
): Required<Pick<CollateralSource, 'crl' | 'settled'>> {
  const now = options.now ?? (() => Date.now() / 1000);
  const send: Fetch = options.fetch ?? ((url, init) => fetch(url, init));
  const answers = new VendorAnswers<Uint8Array>({
    now,
    maxKept: MAX_KEPT,
    maxRunning: MAX_KEPT,
    retrySeconds: RETRY_SECONDS,
  });
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
      return answers.get(url, {
        fetch: async () => {
          const signal = AbortSignal.timeout(options.timeoutMs ?? 3000);
          const { bytes } = await boundedGet(url, send, signal);
          const der = derForm(bytes, 'X509 CRL');
          return { value: der, end: Math.min(parseCrl(der).nextUpdate, now() + KEEP_SECONDS) };
        },
      });
    },
    settled: async (answer, isGood) => {
      if (isGood) answers.good(answer as Uint8Array);
      else answers.bad(answer as Uint8Array);
    },
  };
}

function isVendorUrl(text: string): boolean {
  if (text.length > 512 || !URL.canParse(text)) return false;
  const { protocol, hostname, port, username } = new URL(text);
  const plain = (protocol === 'http:' || protocol === 'https:') && port === '' && username === '';
  return plain && HOSTS.some((host) => host.test(hostname));
}
