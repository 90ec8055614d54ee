import { createHash } from 'node:crypto';

/** A tree of a log as far as it was read: the roots of its complete subtrees, the largest first. */
export type Frontier = { readonly size: number; readonly nodes: readonly Uint8Array[] };

export const EMPTY: Frontier = { size: 0, nodes: [] };
const MAX_PROOF = 64;

/** RFC 6962 section 2.1. */
export function leafHash(leaf: Uint8Array): Uint8Array {
  return sha256(Uint8Array.of(0), leaf);
}

function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return sha256(Uint8Array.of(1), left, right);
}

export function appendLeaf({ size, nodes }: Frontier, hash: Uint8Array): Frontier {
  const grown = [...nodes];
  let node = hash;
  // Each one bit at the end of the size is a subtree that the new leaf completes to one of twice its size.
  for (let rest = size; rest % 2 === 1; rest = Math.floor(rest / 2)) node = nodeHash(grown.pop()!, node);
  return { size: size + 1, nodes: [...grown, node] };
}

/** The tree head. */
export function rootOf({ nodes }: Frontier): Uint8Array {
  if (nodes.length === 0) return sha256();
  return nodes.reduceRight((right, left) => nodeHash(left, right));
}

/**
 * The frontier of a tree from a proof that a later one contains it (RFC 6962 section 2.1.2, RFC 9162 section 2.1.4.2).
 * @param proof from `first` to `second` leaves
 * @returns undefined when the proof does not lead to both roots
 */
export function provenFrontier(
  first: number,
  firstRoot: Uint8Array,
  second: number,
  secondRoot: Uint8Array,
  proof: readonly Uint8Array[],
): Frontier | undefined {
  if (first <= 0 || first >= second || proof.length > MAX_PROOF) return undefined;
  const isPower = Number.isInteger(Math.log2(first));
  const path = isPower ? [firstRoot, ...proof] : [...proof];
  let [fn, sn] = [BigInt(first - 1), BigInt(second - 1)];
  while ((fn & 1n) === 1n) [fn, sn] = [fn >> 1n, sn >> 1n];
  const seed = path[0];
  if (seed === undefined) return undefined;
  let [firstNow, secondNow] = [seed, seed];
  const nodes = [seed];
  for (const node of path.slice(1)) {
    if (sn === 0n) return undefined;
    if ((fn & 1n) === 1n || fn === sn) {
      firstNow = nodeHash(node, firstNow);
      secondNow = nodeHash(node, secondNow);
      nodes.unshift(node);
      while ((fn & 1n) === 0n && fn !== 0n) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else secondNow = nodeHash(secondNow, node);
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  const holds = sn === 0n && same(firstNow, firstRoot) && same(secondNow, secondRoot);
  return holds ? { size: first, nodes } : undefined;
}

export function same(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.from(one).equals(other);
}

function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}
