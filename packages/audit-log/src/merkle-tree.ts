import { createHash } from 'node:crypto';
import { AuditError } from './errors.ts';

const HASH_BYTES = 32;

/** Leaf hash of RFC 6962 section 2.1: SHA-256(0x00 || data). */
export function leafHash(data: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(Uint8Array.of(0)).update(data).digest());
}

/** Node hash of RFC 6962 section 2.1: SHA-256(0x01 || left || right). */
export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(Uint8Array.of(1)).update(left).update(right).digest());
}

/** The largest power of two below `size` (`size` at least 2). */
export function splitPoint(size: number): number {
  let split = 1;
  while (split * 2 < size) split *= 2;
  return split;
}

/**
 * The append-only hash tree of RFC 6962 section 2. Keeps the hash of every complete subtree (64 bytes a leaf),
 * so that heads and proofs cost a logarithmic number of hashes.
 */
export class MerkleTree {
  /** `#levels[k]` holds the hashes of the complete subtrees of 2^k leaves, left to right. */
  readonly #levels: Uint8Array[][] = [[]];

  /** Number of leaves. */
  get size(): number {
    return this.#levels[0]?.length ?? 0;
  }

  /** Appends one leaf. */
  append(data: Uint8Array): void {
    let node = leafHash(data);
    for (let level = 0; ; level++) {
      const row = this.#row(level);
      row.push(node);
      if (row.length % 2 === 1) return;
      node = nodeHash(row.at(-2)!, node);
    }
  }

  /** Root over the first `size` leaves; SHA-256 of nothing for the empty tree. */
  root(size: number = this.size): Uint8Array {
    this.#check(size);
    if (size === 0) return new Uint8Array(createHash('sha256').digest());
    return this.#range(0, size);
  }

  /** Audit path of leaf `index` in the tree of `size` leaves (RFC 6962 section 2.1.1). */
  inclusionProof(index: number, size: number = this.size): Uint8Array[] {
    this.#check(size);
    if (!Number.isInteger(index) || index < 0 || index >= size) {
      throw new AuditError('out-of-range', `No record ${index} in a tree of ${size}`);
    }
    return this.#path(index, 0, size);
  }

  /** Proof that the tree of `first` leaves is a prefix of that of `second` (RFC 6962 section 2.1.2). */
  consistencyProof(first: number, second: number = this.size): Uint8Array[] {
    this.#check(second);
    if (!Number.isInteger(first) || first < 0 || first > second) {
      throw new AuditError('out-of-range', `No tree of ${first} within one of ${second}`);
    }
    return first === 0 || first === second ? [] : this.#subproof(first, 0, second, true);
  }

  #row(level: number): Uint8Array[] {
    let row = this.#levels[level];
    if (row === undefined) {
      row = [];
      this.#levels[level] = row;
    }
    return row;
  }

  #check(size: number): void {
    if (!Number.isInteger(size) || size < 0 || size > this.size) {
      throw new AuditError('out-of-range', `No tree of ${size} records; the log has ${this.size}`);
    }
  }

  /** MTH(D[start:start+size]). */
  #range(start: number, size: number): Uint8Array {
    const level = Math.log2(size);
    if (Number.isInteger(level) && start % size === 0) {
      const complete = this.#levels[level]?.[start / size];
      if (complete !== undefined) return complete;
    }
    const split = splitPoint(size);
    return nodeHash(this.#range(start, split), this.#range(start + split, size - split));
  }

  #path(index: number, start: number, size: number): Uint8Array[] {
    if (size === 1) return [];
    const split = splitPoint(size);
    return index < split
      ? [...this.#path(index, start, split), this.#range(start + split, size - split)]
      : [...this.#path(index - split, start + split, size - split), this.#range(start, split)];
  }

  #subproof(first: number, start: number, size: number, whole: boolean): Uint8Array[] {
    if (first === size) return whole ? [] : [this.#range(start, size)];
    const split = splitPoint(size);
    return first <= split
      ? [...this.#subproof(first, start, split, whole), this.#range(start + split, size - split)]
      : [...this.#subproof(first - split, start + split, size - split, false), this.#range(start, split)];
  }
}

/** Whether `proof` shows that `data` is leaf `index` of the tree with this root (RFC 9162 section 2.1.3.2). */
export function verifyInclusion(
  data: Uint8Array,
  index: number,
  size: number,
  proof: readonly Uint8Array[],
  root: Uint8Array,
): boolean {
  if (!validSize(size) || !validSize(index) || index >= size || !wellFormed(proof)) return false;
  let position = index;
  let last = size - 1;
  let node = leafHash(data);
  for (const sibling of proof) {
    if (last === 0) return false;
    if (position % 2 === 1 || position === last) {
      node = nodeHash(sibling, node);
      while (position % 2 === 0 && position !== 0) {
        position = Math.floor(position / 2);
        last = Math.floor(last / 2);
      }
    } else {
      node = nodeHash(node, sibling);
    }
    position = Math.floor(position / 2);
    last = Math.floor(last / 2);
  }
  return last === 0 && same(node, root);
}

/** Whether `proof` shows that the first tree is a prefix of the second (RFC 9162 section 2.1.4.2). */
export function verifyConsistency(
  first: number,
  second: number,
  proof: readonly Uint8Array[],
  firstRoot: Uint8Array,
  secondRoot: Uint8Array,
): boolean {
  if (!validSize(first) || !validSize(second) || first > second || !wellFormed(proof)) return false;
  if (first === second) return proof.length === 0 && same(firstRoot, secondRoot);
  if (first === 0) return proof.length === 0;
  const isPowerOfTwo = Number.isInteger(Math.log2(first));
  const path = isPowerOfTwo ? [firstRoot, ...proof] : [...proof];
  let position = first - 1;
  let last = second - 1;
  while (position % 2 === 1) {
    position = Math.floor(position / 2);
    last = Math.floor(last / 2);
  }
  const start = path.shift();
  if (start === undefined) return false;
  let firstNode = start;
  let secondNode = start;
  for (const sibling of path) {
    if (last === 0) return false;
    if (position % 2 === 1 || position === last) {
      firstNode = nodeHash(sibling, firstNode);
      secondNode = nodeHash(sibling, secondNode);
      while (position % 2 === 0 && position !== 0) {
        position = Math.floor(position / 2);
        last = Math.floor(last / 2);
      }
    } else {
      secondNode = nodeHash(secondNode, sibling);
    }
    position = Math.floor(position / 2);
    last = Math.floor(last / 2);
  }
  return last === 0 && same(firstNode, firstRoot) && same(secondNode, secondRoot);
}

const validSize = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;

/** A tree of 2^53 leaves has paths of at most 53 hashes. */
const wellFormed = (proof: readonly Uint8Array[]): boolean =>
  proof.length <= 64 && proof.every((hash) => hash.length === HASH_BYTES);

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
