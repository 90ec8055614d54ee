import { X509Certificate } from 'node:crypto';
import { collectBytes } from '@dstack-cloud/runtime';
import { z } from 'zod';
import { askJson } from '../dns/ask-json.ts';
import { CertbotError } from '../errors.ts';
import { type CertificateFacts, factsOfCertificate, isForDomain } from './certificate-facts.ts';
import type { CtSource } from './log-source.ts';

const MAX_CERTIFICATE = 256 * 1024;
const TIMEOUT_MS = 30_000;
/** Certificates fetched in one look; the rest comes at the next. */
const MAX_NEW = 200;
/** Ids that are remembered: those of the last answers. */
const MAX_SEEN = 100_000;

const list = z.array(z.object({ id: z.int().min(0) })).max(MAX_SEEN);
const cursorSchema = z.object({ seen: z.array(z.int().min(0)).max(MAX_SEEN) });

/** A search over many logs with the interface of crt.sh: what it does not show cannot be found out. */
export function searchSource(url: string): CtSource {
  const name = `The search ${new URL(url).host}`;
  const base = url.replace(/\/$/, '');
  const failed = (why: string, cause?: unknown): CertbotError =>
    new CertbotError('ct-failed', why.startsWith(name) ? why : `${name}: ${why}`, { cause });

  return {
    name,
    look: async (domain, cursor) => {
      const parsed = cursorSchema.safeParse(cursor ?? { seen: [] });
      if (!parsed.success) throw failed('what is remembered of it is damaged');
      const seen = new Set(parsed.data.seen);
      const ids = new Set<number>();
      // The domain itself, and names below it: one does not include the other.
      for (const query of [domain, `%.${domain}`]) {
        const address = `${base}/?q=${encodeURIComponent(query)}&output=json`;
        const answer = await askJson(name, { method: 'GET', url: address, headers: {} }, list).catch(
          (cause: Error) => {
            throw failed(cause.message, cause);
          },
        );
        for (const { id } of answer) ids.add(id);
      }
      const fresh = [...ids].filter((id) => !seen.has(id)).sort((one, other) => one - other);
      const certificates: CertificateFacts[] = [];
      for (const id of fresh.slice(0, MAX_NEW)) {
        const facts = await certificateOf(id);
        if (isForDomain(facts, domain)) certificates.push(facts);
        seen.add(id);
      }
      const kept = [...seen].slice(-MAX_SEEN);
      return { certificates, cursor: { seen: kept }, isBehind: fresh.length > MAX_NEW };
    },
  };

  async function certificateOf(id: number): Promise<CertificateFacts> {
    try {
      const response = await fetch(`${base}/?d=${id}`, {
        redirect: 'error',
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      if (!response.ok || response.body === null) throw new Error(`HTTP ${response.status}`);
      const bytes = await collectBytes(response.body, MAX_CERTIFICATE, () => new Error('it is too long'));
      return factsOfCertificate(new Uint8Array(new X509Certificate(bytes).raw));
    } catch (cause) {
      throw failed(`certificate ${id} cannot be read: ${(cause as Error).message}`, cause);
    }
  }
}
