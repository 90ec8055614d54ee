import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { toHex } from '@dstack-cloud/encoding';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VERITY_BLOCK, verityTree } from './verity.ts';

const options = { salt: new Uint8Array(32), uuid: 'd5acc000-0000-4000-8000-000000000003' };
const data = (blocks: number): Uint8Array =>
  Uint8Array.from({ length: blocks * VERITY_BLOCK }, (_, i) => (i * 31 + (i >> 12)) & 0xff);

describe('a verity tree', () => {
  it('does not depend on how the data is cut', async () => {
    const all = data(9);
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < all.length; at += 1000) pieces.push(all.subarray(at, at + 1000));
    expect(await verityTree(pieces, options)).toEqual(await verityTree([all], options));
  });

  it('refuses data that is empty or ends within a block', async () => {
    await expect(verityTree([], options)).rejects.toThrow(/no data/);
    await expect(verityTree([new Uint8Array(5000)], options)).rejects.toThrow(
      /904 bytes after a whole block/,
    );
  });
});

describeWithPrograms('a verity tree and veritysetup', ['veritysetup'], () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'verity-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  // One block, one level, a level that is just full, two levels, three levels.
  it.each([1, 2, 127, 128, 129, 300, 16_385])('agree on %i blocks, byte for byte', async (blocks) => {
    const bytes = data(blocks);
    const { tree, rootHash } = await verityTree([bytes], options);
    const [file, hashes] = [join(folder, 'data'), join(folder, 'hashes')];
    writeFileSync(file, bytes);
    const salt = toHex(options.salt);
    const said = execFileSync(
      'veritysetup',
      ['format', file, hashes, `--salt=${salt}`, `--uuid=${options.uuid}`],
      {
        encoding: 'utf8',
      },
    );
    expect(said).toMatch(new RegExp(`Root hash:\\s+${toHex(rootHash)}`));
    const theirs = readFileSync(hashes);
    expect(Buffer.compare(theirs.subarray(0, tree.length), Buffer.from(tree))).toBe(0);
    expect(theirs.length).toBe(tree.length);
  });

  it('is refused by veritysetup with any one bit of data, tree or root hash changed', async () => {
    const bytes = data(130);
    const { tree, rootHash } = await verityTree([bytes], options);
    const [file, hashes] = [join(folder, 'data'), join(folder, 'hashes')];
    const verifies = (changed: { data?: Uint8Array; tree?: Uint8Array; root?: Uint8Array }): boolean => {
      writeFileSync(file, changed.data ?? bytes);
      writeFileSync(hashes, changed.tree ?? tree);
      const args = ['verify', file, hashes, toHex(changed.root ?? rootHash)];
      return spawnSync('veritysetup', args, { stdio: 'ignore' }).status === 0;
    };
    const flipped = (from: Uint8Array, at: number): Uint8Array => {
      const out = from.slice();
      out[at >> 3]! ^= 1 << (at & 7);
      return out;
    };
    expect(verifies({})).toBe(true);
    for (const share of [0, 0.37, 0.74, 0.999]) {
      const bit = (of: Uint8Array, from = 0) => 8 * from + Math.floor(8 * (of.length - from) * share);
      expect(verifies({ data: flipped(bytes, bit(bytes)) })).toBe(false);
      // The first block of a tree is its superblock; the root is the block after it.
      const used = tree.subarray(0, VERITY_BLOCK + 64);
      expect(verifies({ tree: flipped(tree, bit(used, VERITY_BLOCK)) })).toBe(false);
      expect(verifies({ root: flipped(rootHash, bit(rootHash)) })).toBe(false);
    }
  });
});
