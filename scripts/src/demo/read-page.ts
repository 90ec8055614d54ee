import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { publicKeyToAddress } from '@dstack-cloud/contracts';
import { toHex } from '@dstack-cloud/encoding';

/** What the template application shows. */
export interface Page {
  readonly app_id: string;
  readonly instance_id: string;
  readonly compose_hash: string;
  readonly address: string;
  readonly quote: string;
}

/** A service in a virtual machine without KVM takes a while after its container was started: minutes on a loaded host. */
const TIMEOUT_MS = 600_000;

/** One answer has a fresh quote in it. */
const ANSWER_MS = 120_000;

/** Reads the application's page with a fresh nonce; waits while the service is still starting. */
export async function readPage(url: string, signal: AbortSignal): Promise<Page> {
  const nonce = toHex(new Uint8Array(randomBytes(32)));
  const deadline = Date.now() + TIMEOUT_MS;
  let last = 'no answer';
  while (Date.now() < deadline && !signal.aborted) {
    try {
      const response = await fetch(`${url}/?nonce=${nonce}`, {
        headers: { accept: 'application/json' },
        signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]),
      });
      if (response.ok) return check((await response.json()) as Shown, nonce);
      last = `status ${response.status}: ${(await response.text()).slice(0, 200)}`;
    } catch (error) {
      last =
        error instanceof Error
          ? ((error.cause as Error | undefined)?.message ?? error.message)
          : String(error);
    }
    await sleep(100);
  }
  throw new Error(`The application at ${url} does not answer: ${last}`);
}

/** The service for virtual machines, which has no library for accounts, shows its public key instead of the address. */
type Shown = Omit<Page, 'address'> & { readonly address?: string; readonly public_key?: string };

function check(shown: Shown, nonce: string): Page {
  const { public_key: key = '' } = shown;
  const address = shown.address ?? (/^04[0-9a-f]{128}$/.test(key) ? publicKeyToAddress(`0x${key}`) : '');
  const page = { ...shown, address };
  if (!/^0x[0-9a-fA-F]{40}$/.test(page.address))
    throw new Error(`The page shows no address: ${page.address}`);
  if (!page.quote.includes(nonce)) throw new Error('The quote on the page is not over our nonce');
  return page;
}
