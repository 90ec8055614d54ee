import { createHash } from 'node:crypto';
import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  leafHash,
  MerkleTree,
  nodeHash,
  splitPoint,
  verifyConsistency,
  verifyInclusion,
} from './merkle-tree.ts';

/** A tree whose leaves lie in an array. */
const newTree = (): MerkleTree & { add(leaf: Uint8Array): void } => {
  const leaves: Uint8Array[] = [];
  const tree = new MerkleTree((first, count) => leaves.slice(first, first + count));
  return Object.assign(tree, {
    add(leaf: Uint8Array) {
      leaves.push(leaf);
      tree.append(leaf);
    },
  });
};

const treeOf = (size: number): MerkleTree => {
  const tree = newTree();
  for (let leaf = 0; leaf < size; leaf++) tree.add(utf8(`leaf ${leaf}`));
  return tree;
};

/** MTH of RFC 6962 section 2.1, word for word. */
function slowRoot(leaves: readonly Uint8Array[]): Uint8Array {
  if (leaves.length === 0) return new Uint8Array(createHash('sha256').digest());
  if (leaves.length === 1) return leafHash(leaves[0]!);
  const split = splitPoint(leaves.length);
  return nodeHash(slowRoot(leaves.slice(0, split)), slowRoot(leaves.slice(split)));
}

describe('MerkleTree', () => {
  test('reproduces the reference roots of certificate transparency', () => {
    const inputs = [
      '',
      '00',
      '10',
      '2021',
      '3031',
      '40414243',
      '5051525354555657',
      '606162636465666768696a6b6c6d6e6f',
    ];
    const roots = [
      'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
      '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
      'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
      'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
      'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
      '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
      '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
      'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
      '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
    ];
    const tree = newTree();
    for (const [size, root] of roots.entries()) {
      expect(toHex(tree.root())).toBe(root);
      if (size < inputs.length) tree.add(fromHex(inputs[size]!));
    }
  });

  test('agrees with the definition at every size', () => {
    const tree = treeOf(65);
    const leaves = Array.from({ length: 65 }, (_, leaf) => utf8(`leaf ${leaf}`));
    for (let size = 0; size <= 65; size++) expect(tree.root(size)).toEqual(slowRoot(leaves.slice(0, size)));
  });

  test('agrees with the definition across tiles, for heads and proofs', () => {
    const size = 1100;
    const tree = treeOf(size);
    const leaves = Array.from({ length: size }, (_, leaf) => utf8(`leaf ${leaf}`));
    for (const at of [255, 256, 257, 511, 512, 513, 768, 1023, 1024, 1025, 1100]) {
      const root = tree.root(at);
      expect(root).toEqual(slowRoot(leaves.slice(0, at)));
      for (const index of [0, 1, 254, 255, 256, 500, at - 1].filter((leaf) => leaf < at)) {
        expect(verifyInclusion(leaves[index]!, index, at, tree.inclusionProof(index, at), root)).toBe(true);
      }
      for (const first of [1, 200, 255, 256, 300].filter((smaller) => smaller < at)) {
        expect(verifyConsistency(first, at, tree.consistencyProof(first, at), tree.root(first), root)).toBe(
          true,
        );
      }
    }
  });

  test('proves inclusion of every leaf at every size, and of nothing else', () => {
    const tree = treeOf(33);
    for (let size = 1; size <= 33; size++) {
      const root = tree.root(size);
      for (let index = 0; index < size; index++) {
        const proof = tree.inclusionProof(index, size);
        const leaf = utf8(`leaf ${index}`);
        expect(verifyInclusion(leaf, index, size, proof, root)).toBe(true);
        expect(verifyInclusion(utf8('other'), index, size, proof, root)).toBe(false);
        expect(verifyInclusion(leaf, index + 1, size, proof, root)).toBe(false);
        expect(verifyInclusion(leaf, index, size, [...proof, root], root)).toBe(false);
      }
    }
  });

  test('proves consistency of every pair of sizes, and refuses a rewritten past', () => {
    const tree = treeOf(33);
    const rewritten = newTree();
    for (let leaf = 0; leaf < 33; leaf++) rewritten.add(utf8(leaf === 0 ? 'forged' : `leaf ${leaf}`));
    for (let second = 0; second <= 33; second++) {
      for (let first = 0; first <= second; first++) {
        const proof = tree.consistencyProof(first, second);
        const roots = [tree.root(first), tree.root(second)] as const;
        expect(verifyConsistency(first, second, proof, ...roots)).toBe(true);
        if (first > 0) {
          expect(verifyConsistency(first, second, proof, roots[0], rewritten.root(second))).toBe(false);
          const forged = rewritten.consistencyProof(first, second);
          expect(verifyConsistency(first, second, forged, roots[0], rewritten.root(second))).toBe(false);
        }
      }
    }
  });

  test('a proof with any bit changed fails', () => {
    const tree = treeOf(21);
    fc.assert(
      fc.property(fc.nat(20), fc.nat(), fc.nat(255), (index, where, flip) => {
        const proof = tree.inclusionProof(index).map((hash) => hash.slice());
        const target = proof[where % proof.length]!;
        const before = target[where % 32]!;
        target[where % 32] = before ^ (flip === 0 ? 1 : flip);
        return !verifyInclusion(utf8(`leaf ${index}`), index, 21, proof, tree.root());
      }),
    );
  });
});
