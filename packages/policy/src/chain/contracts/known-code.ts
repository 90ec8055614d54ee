import { equalBytes, fromHex, toHex } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';
import { BoundedMap } from '@dstack-cloud/runtime';

/** Ways in which a DstackKms decides. */
export type KmsLogic = 'dstack-kms-0.6' | 'dstack-kms-3' | 'dstack-kms-3.1';
/** Ways in which a DstackApp decides; 2 is the 0.6 line's successor. */
export type AppLogic = 'dstack-app-0.6' | 'dstack-app-2' | 'dstack-app-3' | 'dstack-app-3.1';

/** What a contract's code is known to do. */
export type CodeName = KmsLogic | AppLogic | 'erc1967-proxy';
export const codeNames: readonly CodeName[] = [
  'erc1967-proxy',
  'dstack-kms-0.6',
  'dstack-kms-3',
  'dstack-kms-3.1',
  'dstack-app-0.6',
  'dstack-app-2',
  'dstack-app-3',
  'dstack-app-3.1',
];

/**
 * Compiled code of ours. OpenZeppelin's UUPSUpgradeable puts the implementation's own address into its code, so the
 * same source has another code hash at each address: the hash here is with zeros at those places.
 */
type Build = {
  readonly name: CodeName;
  readonly bytes: number;
  readonly hash: string;
  /** Offsets of the 32-byte words that hold the contract's own address. */
  readonly ownAddress: readonly number[];
};

/** Every released build; a test holds the newest to `contracts/artifacts`. Entries are never removed. */
export const builds: readonly Build[] = [
  {
    name: 'erc1967-proxy',
    bytes: 170,
    hash: '0xa2656e28e2716230f1a5a059d363c8a25bfd8ec7647779a282fb4a7ada8d2cc1',
    ownAddress: [],
  },
  {
    name: 'dstack-kms-0.6',
    bytes: 10_500,
    hash: '0xdc82eb1614f29bb15ad3272d5054e67f8481c96469a0c5246ca09d35bffe9dab',
    ownAddress: [5_575, 5_617, 5_953],
  },
  {
    name: 'dstack-app-0.6',
    bytes: 4_421,
    hash: '0xe9661711b0412af520a8626d00aafd5398169936c8c4910780c08c4f08c94fd9',
    ownAddress: [2_445, 2_486, 2_905],
  },
  {
    name: 'dstack-kms-3',
    bytes: 19_103,
    hash: '0xe52a5f7395ccb3512c91bb44079d69e9081102d1e3f3d3be50cc84ffd384c762',
    ownAddress: [12_576, 12_618, 13_007],
  },
  {
    name: 'dstack-app-3',
    bytes: 10_814,
    hash: '0xb75e8aba452a7b1e3047532dba1b477ebfda9cb166a7128763b05c465e61cc8f',
    ownAddress: [6_629, 6_670, 7_090],
  },
  {
    name: 'dstack-kms-3.1',
    bytes: 21_302,
    hash: '0x44b55df5639630d07e1728e177908b9bbbf1988f6bb60427ef86e5803b6a7be2',
    ownAddress: [13_847, 13_889, 14_276],
  },
  // The same code from other source files: the hash of their metadata is the only difference.
  {
    name: 'dstack-kms-3.1',
    bytes: 21_302,
    hash: '0x57bb398dd6c3e9f3c3982f3c3cd9dafc60167936ca0cd9bdd3ca54026fcb41fd',
    ownAddress: [13_847, 13_889, 14_276],
  },
  {
    name: 'dstack-app-3.1',
    bytes: 13_360,
    hash: '0x70284647fc29bb587a61c3de84c95acfe8aa514148a232cab47e102363554295',
    ownAddress: [8_110, 8_151, 8_548],
  },
];

/** Code hashes that were recognised are remembered, so many at most: each address has its own. */
const MAX_RECOGNISED = 1_000;

/** Says what code does. Storage of code that is not known means nothing. */
export class KnownCode {
  readonly #byHash: ReadonlyMap<string, CodeName>;
  readonly #recognised = new BoundedMap<string, CodeName>(MAX_RECOGNISED);

  /** @param configured names by code hash, 0x hex, of contracts that were built elsewhere */
  constructor(configured: Readonly<Record<string, CodeName>>) {
    this.#byHash = new Map([
      ...builds
        .filter(({ ownAddress }) => ownAddress.length === 0)
        .map(({ hash, name }) => [hash, name] as const),
      ...Object.entries(configured).map(([hash, name]) => [hash.toLowerCase(), name] as const),
    ]);
  }

  /** By the code hash alone, if that is enough. */
  byHash(codeHash: string): CodeName | undefined {
    return this.#byHash.get(codeHash) ?? this.#recognised.get(codeHash);
  }

  /**
   * By the code itself.
   * @param codeHash proven hash of `code`
   * @param address where the code is
   */
  byCode(codeHash: string, code: Uint8Array, address: string): CodeName | undefined {
    const build = builds.find((one) => isBuild(one, code, address));
    if (!build) return undefined;
    this.#recognised.set(codeHash, build.name);
    return build.name;
  }
}

function isBuild({ bytes, hash, ownAddress }: Build, code: Uint8Array, address: string): boolean {
  if (code.length !== bytes) return false;
  const own = new Uint8Array(32);
  own.set(fromHex(address, { length: 20, prefix: 'allow' }), 12);
  const template = code.slice();
  for (const offset of ownAddress) {
    if (!equalBytes(code.subarray(offset, offset + 32), own)) return false;
    template.fill(0, offset, offset + 32);
  }
  return `0x${toHex(keccak256(template))}` === hash;
}
