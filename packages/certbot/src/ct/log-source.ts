import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { z } from 'zod';
import { askJson } from '../dns/ask-json.ts';
import { CertbotError } from '../errors.ts';
import { type CertificateFacts, factsOfCertificate, factsOfTbs, isForDomain } from './certificate-facts.ts';
import { appendLeaf, EMPTY, type Frontier, leafHash, provenFrontier, rootOf, same } from './merkle.ts';

/** What is new in a source, and what to remember of it. */
type Found = {
  readonly certificates: readonly CertificateFacts[];
  readonly cursor: unknown;
  readonly isBehind: boolean;
};

/** Where certificates are looked for. */
export type CtSource = {
  readonly name: string;
  /** @param cursor of the last time; undefined the first time @throws CertbotError `ct-failed` */
  look(domain: string, cursor: unknown): Promise<Found>;
};

const BATCH = 256;
/** Entries of one look; the rest comes at the next. */
const MAX_ENTRIES = 8_192;

const bytes = z.base64().transform((text) => new Uint8Array(Buffer.from(text, 'base64')));
const hash = bytes.refine(({ length }) => length === 32, 'not 32 bytes');
const treeHead = z.object({
  tree_size: z.int().min(0),
  timestamp: z.int().min(0),
  sha256_root_hash: hash,
  tree_head_signature: bytes,
});
const consistency = z.object({ consistency: z.array(hash).max(64) });
const entries = z.object({
  entries: z.array(z.object({ leaf_input: bytes, extra_data: z.string() })).max(4_096),
});
const cursorSchema = z.object({ size: z.int().min(0), nodes: z.array(hash).max(64) });

/**
 * A log of RFC 6962. Every tree head is signed by the log, contains what was seen before, and is the root over the very entries that
 * were read: a log that hides an entry, or shows us another tree than before, is found out.
 * @param publicKey PEM of the log's key
 * @param fromStart whether a first look begins with the first entry, not with those to come
 */
export function logSource(url: string, publicKey: string, fromStart: boolean): CtSource {
  const name = `The log ${new URL(url).host}`;
  const key = createPublicKey(publicKey);
  const ask = async <T>(path: string, schema: z.ZodType<T>): Promise<T> => {
    try {
      return await askJson(
        name,
        { method: 'GET', url: `${url.replace(/\/$/, '')}/ct/v1/${path}`, headers: {} },
        schema,
      );
    } catch (error) {
      throw new CertbotError('ct-failed', (error as Error).message, { cause: error });
    }
  };
  const lies = (why: string): CertbotError => new CertbotError('ct-failed', `${name} ${why}`);

  return {
    name,
    look: async (domain, cursor) => {
      const head = await ask('get-sth', treeHead);
      if (!isSigned(head, key)) throw lies('shows a tree head that it did not sign');
      let seen: Frontier;
      if (cursor === undefined) {
        seen = EMPTY;
        // Of what came before nothing is known; from here on every entry is read.
        if (!fromStart && head.tree_size > 0)
          return { certificates: [], cursor: firstCursor(head), isBehind: false };
      } else if (isFirst(cursor)) {
        if (head.tree_size === cursor.from) return { certificates: [], cursor, isBehind: false };
        if (head.tree_size < cursor.from)
          throw lies(`has ${head.tree_size} entries now, and had ${cursor.from}`);
        seen = await proven(cursor.from, Buffer.from(cursor.root, 'base64'), head);
      } else {
        const parsed = cursorSchema.safeParse(cursor);
        if (!parsed.success)
          throw new CertbotError('ct-failed', `${name}: what is remembered of it is damaged`);
        seen = parsed.data;
      }
      if (head.tree_size < seen.size) throw lies(`has ${head.tree_size} entries now, and had ${seen.size}`);
      if (seen.size > 0 && head.tree_size > seen.size) await proven(seen.size, rootOf(seen), head);
      if (seen.size === head.tree_size && !same(rootOf(seen), head.sha256_root_hash))
        throw lies('shows another tree of the same size');
      const until = Math.min(head.tree_size, seen.size + MAX_ENTRIES);
      const certificates: CertificateFacts[] = [];
      let tree = seen;
      while (tree.size < until) {
        const end = Math.min(until, tree.size + BATCH) - 1;
        const { entries: found } = await ask(`get-entries?start=${tree.size}&end=${end}`, entries);
        if (found.length === 0 || found.length > end - tree.size + 1)
          throw lies('answers with other entries than were asked for');
        for (const { leaf_input: leaf } of found) {
          const facts = factsOfLeaf(leaf);
          if (facts !== undefined && isForDomain(facts, domain)) certificates.push(facts);
          tree = appendLeaf(tree, leafHash(leaf));
        }
      }
      const isBehind = tree.size < head.tree_size;
      if (!isBehind) {
        if (!same(rootOf(tree), head.sha256_root_hash))
          throw lies('signed a tree that is not made of the entries that it shows');
      } else await proven(tree.size, rootOf(tree), head);
      return { certificates, cursor: cursorOf(tree), isBehind };
    },
  };

  async function proven(size: number, root: Uint8Array, head: z.infer<typeof treeHead>): Promise<Frontier> {
    const { consistency: proof } = await ask(
      `get-sth-consistency?first=${size}&second=${head.tree_size}`,
      consistency,
    );
    const frontier = provenFrontier(size, root, head.tree_size, head.sha256_root_hash, proof);
    if (frontier === undefined)
      throw lies(`does not prove that its tree of ${head.tree_size} entries contains that of ${size}`);
    return frontier;
  }
}

type First = { readonly from: number; readonly root: string };

function firstCursor(head: z.infer<typeof treeHead>): First {
  return { from: head.tree_size, root: Buffer.from(head.sha256_root_hash).toString('base64') };
}

function isFirst(cursor: unknown): cursor is First {
  return z.object({ from: z.int().min(1), root: z.base64() }).safeParse(cursor).success;
}

function cursorOf({ size, nodes }: Frontier): unknown {
  return { size, nodes: nodes.map((node) => Buffer.from(node).toString('base64')) };
}

/** RFC 6962 sections 3.4 and 3.5: what no browser reads as a certificate is none; a leaf that cannot be read is not for us. */
function factsOfLeaf(leaf: Uint8Array): CertificateFacts | undefined {
  try {
    const view = Buffer.from(leaf);
    // version v1, timestamped_entry; a timestamp; the type of the entry.
    if (view.readUInt16BE(0) !== 0) return undefined;
    const type = view.readUInt16BE(10);
    const from = type === 0 ? 12 : type === 1 ? 12 + 32 : undefined;
    if (from === undefined) return undefined;
    const length = view.readUIntBE(from, 3);
    const der = new Uint8Array(view.subarray(from + 3, from + 3 + length));
    if (der.length !== length) return undefined;
    return type === 0 ? factsOfCertificate(der) : factsOfTbs(der);
  } catch {
    return undefined;
  }
}

/** RFC 6962 section 3.5; the signature is one of RFC 5246 section 4.7: SHA-256 with ECDSA or RSA. */
function isSigned(head: z.infer<typeof treeHead>, key: KeyObject): boolean {
  const signed = Buffer.alloc(2 + 8 + 8 + 32);
  signed.writeUInt8(1, 1);
  signed.writeBigUInt64BE(BigInt(head.timestamp), 2);
  signed.writeBigUInt64BE(BigInt(head.tree_size), 10);
  signed.set(head.sha256_root_hash, 18);
  const given = Buffer.from(head.tree_head_signature);
  if (given.length < 4 || given.readUInt8(0) !== 4 || given.readUInt16BE(2) !== given.length - 4)
    return false;
  return verify('sha256', signed, key, given.subarray(4));
}
