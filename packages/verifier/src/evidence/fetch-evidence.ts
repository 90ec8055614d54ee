import { toHex } from '@dstack-cloud/encoding';
import { VerifierError } from '../errors.ts';
import { MAX_EVIDENCE_BYTES } from './recognise.ts';

const TIMEOUT_MS = 20_000;
const NONCE_BYTES = 32;

/** Whether a text is an address rather than evidence or a file. */
export function isUrl(text: string): boolean {
  return /^https?:\/\/\S+$/i.test(text) && URL.canParse(text);
}

/** Where to fetch evidence, and the nonce that it must be made for. */
export interface EvidenceAddress {
  readonly url: string;
  /** Only where the answer is made for us. */
  readonly nonce?: Uint8Array;
}

/**
 * The address of a guest agent (`https://host`, or its `/attestation`) gets a nonce of our own, so that old evidence
 * cannot be shown to us; any other address is a file, which may be a recording.
 */
export function evidenceAddress(text: string): EvidenceAddress {
  const url = new URL(text);
  if (url.pathname === '/' && url.search === '') url.pathname = '/attestation';
  if (!url.pathname.endsWith('/attestation') || url.searchParams.has('nonce')) return { url: url.href };
  const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
  url.searchParams.set('nonce', toHex(nonce));
  return { url: url.href, nonce };
}

/**
 * Fetches evidence without cookies or referrer, bounded in time and size. What comes is the prover's: it is verified as
 * evidence, and never read as a bundle, which would bring a time and collateral along.
 * @throws VerifierError `io`, `too-large`
 */
export async function fetchEvidence({ url, nonce }: EvidenceAddress): Promise<Uint8Array> {
  try {
    // Node has neither cookies nor a cache of its own, and its types do not know the latter.
    const privately = { credentials: 'omit', referrerPolicy: 'no-referrer', cache: 'no-store' } as const;
    const response = await fetch(url, {
      ...privately,
      redirect: nonce ? 'error' : 'follow',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (!response.ok) throw new VerifierError('io', `${url} answered ${response.status}`);
    return await bodyOf(response, url);
  } catch (cause) {
    if (cause instanceof VerifierError) throw cause;
    throw new VerifierError('io', `${url} gave no answer: ${reason(cause)}`, { cause });
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

/** Node says why in the cause of its error; a browser does not say. */
function reason(error: unknown): string {
  const { cause } = error as { cause?: { code?: unknown; message?: unknown } };
  for (const text of [cause?.message, cause?.code]) {
    if (typeof text === 'string' && text !== '') return text;
  }
  return error instanceof Error && error.name === 'TimeoutError'
    ? 'time-out'
    : 'it must be reachable, and for a browser allow requests from other origins';
}
