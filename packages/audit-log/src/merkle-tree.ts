import { createHash } from 'node:crypto';
import { AuditError } from './errors.ts';
import { PackedHashes } from './packed-hashes.ts';

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

/** Leaves of one tile, 2^8: subtrees at least this large are kept, smaller ones are made from the leaves. */
const TILE_LEVEL = 8;
const TILE = 1 << TILE_LEVEL;

/** Gives the data of `count` consecutive leaves, from number `first` on. */
export type ReadLeaves = (first: number, count: number) => readonly Uint8Array[];

/**
 * The append-only hash tree of RFC 6962 section 2. Keeps in memory only the hashes of complete subtrees of 256 leaves
 * and more, a quarter of a byte a leaf; the leaves stay where their owner has them. Heads and proofs cost a
 * logarithmic number of kept hashes and the leaves of at most two tiles.
 */
export class MerkleTree {
  readonly #readLeaves: ReadLeaves;
  /** `#levels[k]` holds the hashes of the complete subtrees of 2^(8+k) leaves, left to right. */
  readonly #levels: PackedHashes[] = [];
  /** Leaf hashes of the last, incomplete tile. */
  #tail: Uint8Array[] = [];
  #size = 0;

  constructor(readLeaves: ReadLeaves) {
    this.#readLeaves = readLeaves;
  }

  /** Number of leaves. */
  get size(): number {
    return this.#size;
  }

  /** Appends one leaf. */
  append(data: Uint8Array): void {
    this.#tail.push(leafHash(data));
    this.#size += 1;
    if (this.#tail.length < TILE) return;
    let node = fold(this.#tail);
    this.#tail = [];
    for (let level = 0; ; level++) {
      const row = this.#row(level);
      row.push(node);
      if (row.length % 2 === 1) return;
      node = nodeHash(row.get(row.length - 2)!, node);
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

  #row(level: number): PackedHashes {
    let row = this.#levels[level];
    if (row === undefined) {
      row = new PackedHashes();
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
    if (Number.isInteger(level) && level >= TILE_LEVEL && start % size === 0) {
      const complete = this.#levels[level - TILE_LEVEL]?.get(start / size);
      if (complete !== undefined) return complete;
    }
    if (size <= TILE) return mth(this.#leafHashes(start, size));
    const split = splitPoint(size);
    return nodeHash(this.#range(start, split), this.#range(start + split, size - split));
  }

  #leafHashes(start: number, count: number): Uint8Array[] {
    const tailStart = this.#size - this.#tail.length;
    if (start >= tailStart) return this.#tail.slice(start - tailStart, start - tailStart + count);
    const leaves = this.#readLeaves(start, count);
    if (leaves.length !== count)
      throw new AuditError('out-of-range', `Leaves ${start} to ${start + count - 1} are gone`);
    return leaves.map(leafHash);
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

/** Root over these leaf hashes. */
function mth(hashes: readonly Uint8Array[]): Uint8Array {
  if (hashes.length === 1) return hashes[0]!;
  const split = splitPoint(hashes.length);
  return nodeHash(mth(hashes.slice(0, split)), mth(hashes.slice(split)));
}

/** Root over a power of two of leaf hashes, level by level. */
function fold(hashes: readonly Uint8Array[]): Uint8Array {
  let row = hashes;
  while (row.length > 1) {
    row = Array.from({ length: row.length / 2 }, (_, index) =>
      nodeHash(row[2 * index]!, row[2 * index + 1]!),
    );
  }
  return row[0]!;
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
