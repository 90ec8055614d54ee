import {
  AuditError,
  auditKeyCertifier,
  type RootHandover,
  type SignedTreeHead,
  verifyConsistency,
  verifyInclusion,
  verifyTreeHead,
} from '@dstack-cloud/audit-log';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { CliError, EXIT, messageOf } from '../errors.ts';
import { type AuditSigner, checkHandover, readHandovers } from './handovers.ts';
import { postKms } from './post-kms.ts';

/** The head of a KMS's log, its signature and the signer's certificate by the root checked. */
export interface AuditHead extends AuditSigner {
  readonly head: SignedTreeHead;
  /** How the log came from earlier roots to this one; each is believed only from a root that is. */
  readonly handovers: readonly RootHandover[];
}

/** What the KMS answers, not yet believed. */
interface HeadAnswer {
  readonly tree_size?: unknown;
  readonly root_hash?: unknown;
  readonly timestamp?: unknown;
  readonly signature?: unknown;
  readonly public_key?: unknown;
  readonly public_key_signature?: unknown;
  readonly handovers?: unknown;
}

/**
 * Fetches the signed head. Throws `kms_unreachable`; `kms_untrusted` when the audit key is certified neither by the
 * expected root nor by one that it handed over to; `audit_broken` when the head is not signed by the audit key.
 * @param rootKey compressed root key, hex without 0x
 */
export async function fetchAuditHead(url: string, rootKey: string): Promise<AuditHead> {
  const answer = (await ask(url, 'GetAuditHead', {})) as HeadAnswer;
  return broken(`The head of the audit log of ${url}`, () => {
    const publicKey = fromHex(String(answer.public_key), { length: 33 });
    const certifier = toHex(auditKeyCertifier(publicKey, fromHex(String(answer.public_key_signature))));
    const handovers = readHandovers(answer.handovers);
    const signer = { rootKey: certifier, publicKey };
    try {
      checkHandover(handovers, { rootKey }, signer);
    } catch (cause) {
      if (!(cause instanceof AuditError)) throw cause;
      throw new CliError('kms_untrusted', `The audit key of ${url} is not certified by the expected root`, {
        expected: `0x${rootKey}`,
        found: `0x${certifier}`,
        exitCode: EXIT.refused,
        cause,
        hint: 'Somebody may stand between you and the KMS. Check the URL and chain.kms_contract',
      });
    }
    const head = verifyTreeHead(
      {
        size: answer.tree_size,
        timestamp: answer.timestamp,
        root: answer.root_hash,
        signature: answer.signature,
      },
      publicKey,
    );
    return { head, handovers, ...signer };
  });
}

/** That the signer of now follows from the one that was seen before. Throws `audit_broken`. */
export function checkSigner(url: string, before: AuditSigner, now: AuditHead): void {
  try {
    checkHandover(now.handovers, before, now);
  } catch (cause) {
    if (!(cause instanceof AuditError)) throw cause;
    throw new CliError('audit_broken', `The audit log of ${url} has another signer than before`, {
      expected: `${toHex(before.publicKey)}, or a signed hand-over from it`,
      found: `${toHex(now.publicKey)}: ${cause.message}`,
      cause,
      hint: 'A key service that changes its root hands its log over. If another one took its place, move audit-heads.json away',
    });
  }
}

/** Has the KMS prove that its log at `later` continues that at `earlier`. Throws `audit_broken`. */
export async function checkGrowth(
  url: string,
  earlier: Pick<SignedTreeHead, 'size' | 'root'>,
  later: SignedTreeHead,
): Promise<void> {
  if (later.size < earlier.size) {
    throw auditBroken(`The audit log of ${url} has become shorter`, earlier.size, later.size);
  }
  const hashes = await proof(url, 'GetAuditConsistency', { first: earlier.size, second: later.size });
  if (!verifyConsistency(earlier.size, later.size, hashes, fromHex(earlier.root), fromHex(later.root))) {
    throw auditBroken(
      `The audit log of ${url} was rewritten`,
      `a continuation of ${earlier.root}`,
      later.root,
    );
  }
}

/** Has the KMS prove that a record is in its log. Throws `audit_broken`. */
export async function checkRecord(
  url: string,
  seq: number,
  hash: Uint8Array,
  head: SignedTreeHead,
): Promise<void> {
  if (seq >= head.size) {
    throw auditBroken(`Record ${seq} is not in the log of ${url}`, `more than ${seq} records`, head.size);
  }
  const hashes = await proof(url, 'GetAuditInclusion', { seq, tree_size: head.size });
  if (!verifyInclusion(hash, seq, head.size, hashes, fromHex(head.root))) {
    throw auditBroken(`Record ${seq} of ${url} is another`, toHex(hash), 'a proof for another hash');
  }
}

async function proof(url: string, method: string, body: object): Promise<Uint8Array[]> {
  const { hashes } = (await ask(url, method, body)) as { hashes?: unknown };
  return broken(`The proof of ${url}`, () => {
    if (!Array.isArray(hashes)) throw new Error('no list of hashes');
    return hashes.map((hash) => fromHex(String(hash), { length: 32 }));
  });
}

async function ask(url: string, method: string, body: object): Promise<unknown> {
  try {
    return await postKms(url, method, body);
  } catch (error) {
    throw new CliError('kms_unreachable', `${url} does not answer ${method}: ${messageOf(error)}`, {
      hint: 'Check services.kms_urls (dstack-cloud config-edit) and that the KMS runs with its audit log on',
    });
  }
}

function broken<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof CliError) throw error;
    const found = error instanceof AuditError ? error.message : messageOf(error);
    throw new CliError('audit_broken', `${what} cannot be accepted: ${found}`, { cause: error });
  }
}

function auditBroken(message: string, expected: string | number, found: string | number): CliError {
  return new CliError('audit_broken', message, {
    expected: String(expected),
    found: String(found),
    hint: 'Keep both heads: together with their signatures they prove that the key service rewrote its log',
  });
}
