import { equalBytes } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';
import { PolicyError } from '../../errors.ts';
import { type RlpItem, readRlp, rlpItems, rlpText } from './rlp.ts';

/** Nibbles of a key: both tries of Ethereum hash their keys to 32 bytes. */
const KEY_NIBBLES = 64;
/** Every node on the way to a key takes at least one nibble; the leaf may take none. */
const MAX_NODES = KEY_NIBBLES + 1;
/** A branch of 16 hashes has 532 bytes; a leaf is its key and an account. */
const MAX_NODE_BYTES = 600;
/** A node shorter than a hash lies inside its parent. */
const HASH_BYTES = 32;
const BRANCH_ITEMS = 17;

/** An empty string: the whole trie, or a place without a node. */
const EMPTY = Uint8Array.of(0x80);
/** Root of a trie without keys. */
const EMPTY_ROOT: Uint8Array = keccak256(EMPTY);

/**
 * Follow a Merkle-Patricia proof from the root to a key (yellow paper, appendix D). The nodes must be exactly those
 * on the way, root first.
 * @param root hash of the root node, 32 bytes
 * @param key what the trie is keyed by: the Keccak-256 of the address or slot, 32 bytes
 * @returns the value, RLP of its own; undefined when the proof shows that the key is absent
 * @throws PolicyError `chain-proof` when the nodes prove neither
 */
export function provenValue(
  root: Uint8Array,
  key: Uint8Array,
  nodes: readonly Uint8Array[],
): Uint8Array | undefined {
  if (root.length !== HASH_BYTES || key.length !== HASH_BYTES) throw badProof('root or key is no hash');
  if (nodes.length > MAX_NODES) throw badProof(`more than ${MAX_NODES} nodes`);
  if (equalBytes(root, EMPTY_ROOT)) return provenEmpty(nodes);

  const nibbles = nibblesOf(key);
  const walk = new ProofWalk(nodes);
  let node = walk.hashed(root);
  for (let at = 0; at <= KEY_NIBBLES; ) {
    const items = rlpItems(readRlp(node), BRANCH_ITEMS);
    if (items.length === BRANCH_ITEMS) {
      const child = items[nibbles[at++] ?? BRANCH_ITEMS];
      if (!child) throw badProof('a branch behind the end of the key');
      // Keys have one length, so none ends at a branch.
      if (rlpText(items[16]!).length > 0) throw badProof('a branch has a value');
      if (isEmpty(child)) return walk.finish(undefined);
      node = walk.child(child);
      continue;
    }
    const [path, target] = items;
    if (!path || !target || items.length !== 2) throw badProof('a node has neither 2 nor 17 items');
    const { isLeaf, part } = pathOf(path);
    const end = at + part.length;
    if (isLeaf ? end !== KEY_NIBBLES : part.length === 0 || end >= KEY_NIBBLES) {
      throw badProof('a path does not fit the length of keys');
    }
    if (!part.every((nibble, index) => nibble === nibbles[at + index])) return walk.finish(undefined);
    if (isLeaf) return walk.finish(rlpText(target));
    node = walk.child(target);
    at = end;
  }
  throw badProof('a way longer than the key');
}

/** Hands out the nodes of a proof in order, each only for the reference that names it. */
class ProofWalk {
  readonly #nodes: readonly Uint8Array[];
  #next = 0;

  constructor(nodes: readonly Uint8Array[]) {
    this.#nodes = nodes;
  }

  hashed(hash: Uint8Array): Uint8Array {
    const node = this.#nodes[this.#next++];
    if (!node) throw badProof('a node is missing');
    if (node.length > MAX_NODE_BYTES) throw badProof('a node is too long');
    if (!equalBytes(keccak256(node), hash)) throw badProof('a node does not have the hash it should have');
    return node;
  }

  child(reference: RlpItem): Uint8Array {
    if (!reference.isList) {
      return this.hashed(rlpText(reference, HASH_BYTES));
    }
    if (reference.raw.length >= HASH_BYTES) throw badProof('a long node lies inside its parent');
    // Some nodes list it once more, although the parent has it already.
    const listed = this.#nodes[this.#next];
    if (listed && equalBytes(listed, reference.raw)) this.#next += 1;
    return reference.raw;
  }

  finish(value: Uint8Array | undefined): Uint8Array | undefined {
    if (this.#next !== this.#nodes.length) throw badProof('nodes are left over');
    if (value?.length === 0) throw badProof('a leaf is empty');
    return value;
  }
}

/** Nodes show an empty trie by nothing at all or by the empty string. */
function provenEmpty(nodes: readonly Uint8Array[]): undefined {
  const [first] = nodes;
  if (nodes.length > 1 || (first && !equalBytes(first, EMPTY))) throw badProof('nodes of an empty trie');
  return undefined;
}

/** Read the hex-prefix form of a path (yellow paper, appendix C). */
function pathOf(item: RlpItem): { isLeaf: boolean; part: number[] } {
  const nibbles = nibblesOf(rlpText(item));
  const [flag, pad] = nibbles;
  if (flag === undefined || flag > 3) throw badProof('a path has no such flag');
  const isOdd = (flag & 1) === 1;
  if (!isOdd && pad !== 0) throw badProof('a path is padded with something');
  return { isLeaf: flag >= 2, part: nibbles.slice(isOdd ? 1 : 2) };
}

function isEmpty({ isList, payload }: RlpItem): boolean {
  return !isList && payload.length === 0;
}

function nibblesOf(bytes: Uint8Array): number[] {
  return [...bytes].flatMap((byte) => [byte >> 4, byte & 15]);
}

function badProof(what: string): PolicyError {
  return new PolicyError('chain-proof', `Proof does not hold: ${what}`);
}
