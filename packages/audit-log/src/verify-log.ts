import { toHex } from '@dstack-cloud/encoding';
import { AuditError } from './errors.ts';
import { MerkleTree } from './merkle-tree.ts';
import { PackedHashes } from './packed-hashes.ts';
import { loadLog } from './segments.ts';
import { type SignedTreeHead, verifyTreeHead } from './tree-head.ts';

/** What was found in a log that holds together. */
export type LogVerdict = { records: number; firstRecord: number; root: string; heads: SignedTreeHead[] };

/**
 * Checks a log directory: each record follows from the one before it, and every head given is signed by an audit key
 * and fits the records.
 * @param publicKeys audit public keys, compressed, 33 bytes; several when the root was rotated (see `followHandovers`)
 * @param heads heads collected earlier, from anyone
 * @throws AuditError `malformed`, `chain-broken`, `proof-invalid`
 */
export async function verifyLog(
  directory: string,
  publicKeys: Uint8Array | readonly Uint8Array[],
  heads: readonly unknown[],
): Promise<LogVerdict> {
  const hashes = new PackedHashes();
  const tree = new MerkleTree((first, count) =>
    Array.from({ length: count }, (_, index) => hashes.get(first + index)!),
  );
  const { firstRecord } = await loadLog(directory, false, (hash) => {
    hashes.push(hash);
    tree.append(hash);
  });
  const verified = heads.map((head) => verifyTreeHead(head, publicKeys));
  for (const { size, root } of verified) {
    if (size > tree.size) {
      throw new AuditError(
        'chain-broken',
        `A signed head speaks of ${size} records, the log has ${tree.size}`,
      );
    }
    const found = toHex(tree.root(size));
    if (found !== root) {
      throw new AuditError(
        'chain-broken',
        `The first ${size} records hash to ${found}, the signed head says ${root}`,
      );
    }
  }
  return { records: tree.size, firstRecord, root: toHex(tree.root()), heads: verified };
}
