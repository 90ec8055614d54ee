import { freshReportData, MAX_EVIDENCE_BYTES, VerifierError } from '@dstack-cloud/verifier/browser';
import { hexOf } from './hex.ts';

const TIMEOUT_MS = 20_000;
const NONCE_BYTES = 32;

/** Whether the text of the field is an address rather than evidence. */
export function isUrl(text: string): boolean {
  return /^https?:\/\/\S+$/i.test(text) && URL.canParse(text);
}

/** Where to fetch evidence, and what it must carry then. */
export interface Source {
  readonly url: string;
  /** Hex; only where the answer is made for us. */
  readonly reportData?: string;
}

/**
 * The address of a guest agent (`https://host`, or its `/attestation`) gets a nonce of our own, so that old evidence
 * cannot be shown to us; any other address is a file.
 */
export function sourceOf(text: string): Source {
  const url = new URL(text);
  if (url.pathname === '/' && url.search === '') url.pathname = '/attestation';
  if (!url.pathname.endsWith('/attestation') || url.searchParams.has('nonce')) return { url: url.href };
  const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
  url.searchParams.set('nonce', hexOf(nonce));
  return { url: url.href, reportData: hexOf(freshReportData(nonce)) };
}

/**
 * Fetches evidence without cookies or referrer, bounded in time and size.
 * @throws VerifierError `io`, `too-large`
 */
export async function fetchEvidence(url: string): Promise<Uint8Array> {
  try {
    const response = await fetch(url, {
      credentials: 'omit',
      referrerPolicy: 'no-referrer',
      cache: 'no-store',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (!response.ok) throw new VerifierError('io', `${url} answered ${response.status}`);
    return await bodyOf(response, url);
  } catch (cause) {
    if (cause instanceof VerifierError) throw cause;
    throw new VerifierError('io', `${url} gave no answer; it must allow requests from other origins`, {
      cause,
    });
  }
}

async function bodyOf(response: Response, url: string): Promise<Uint8Array> {
  const reader = response.body?.getReader();
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  while (reader) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > MAX_EVIDENCE_BYTES) {
      await reader.cancel();
      throw new VerifierError('too-large', `${url} gives more than ${MAX_EVIDENCE_BYTES} bytes`);
    }
    chunks.push(value);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}
