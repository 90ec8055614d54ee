/** Which code is known: ours as it is compiled and deployed, what is configured, and nothing else. */

import { buildContracts, loadArtifact, loadRelease } from '@dstack-cloud/contracts';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';
import type { Hex } from 'viem';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ChainLab, deployContracts, type LabContracts, startChainLab } from '../../test/chain-lab.ts';
import { builds, type CodeName, codeNames, KnownCode } from './known-code.ts';

const bytesOf = (hex: string): Uint8Array => fromHex(hex, { prefix: 'allow' });
const hashOf = (code: Uint8Array): string => `0x${toHex(keccak256(code))}`;

describe('the builds in the list', () => {
  // A changed contract needs a new entry (docs/decisions); old ones stay, because they are deployed.
  test.each([
    ['ERC1967Proxy', 'erc1967-proxy'],
    ['DstackKms', 'dstack-kms-3.1'],
    ['DstackApp', 'dstack-app-3.1'],
  ] as const)('have %s as it is compiled now', async (artifact, name) => {
    await buildContracts();
    const code = bytesOf(loadArtifact(artifact).deployedBytecode);
    expect(builds).toContainEqual(expect.objectContaining({ name, bytes: code.length, hash: hashOf(code) }));
  });

  test.each([
    ['0.6', 'DstackKms', 'dstack-kms-0.6'],
    ['0.6', 'DstackApp', 'dstack-app-0.6'],
    ['3', 'DstackKms', 'dstack-kms-3'],
    ['3', 'DstackApp', 'dstack-app-3'],
  ] as const)('have release %s of %s', (release, artifact, name) => {
    const code = bytesOf(loadRelease(release, artifact).deployedBytecode);
    expect(builds).toContainEqual(expect.objectContaining({ name, bytes: code.length, hash: hashOf(code) }));
  });

  test('have names that configuration knows', () => {
    for (const { name } of builds) expect(codeNames).toContain(name);
  });
});

describe.each([
  [undefined, 3.1],
  ['3', 3],
  ['0.6', 0.6],
] as const)('deployed code of release %s', (release, version) => {
  let lab: ChainLab;
  let contracts: LabContracts;
  beforeAll(async () => {
    lab = await startChainLab();
    contracts = await deployContracts(lab, release);
  }, 60_000);
  afterAll(() => lab?.stop());

  const codeAt = async (address: Hex): Promise<Uint8Array> =>
    bytesOf(await lab.rpc('eth_getCode', address, 'latest'));

  test('of a proxy is known by its hash alone', async () => {
    const code = await codeAt(contracts.kms);
    expect(new KnownCode({}).byHash(hashOf(code))).toBe('erc1967-proxy');
    expect(hashOf(await codeAt(contracts.app))).toBe(hashOf(code));
  });

  test.each([
    ['kmsImplementation', `dstack-kms-${version}`],
    ['appImplementation', `dstack-app-${version}`],
  ] as const)('of %s is known by the code at its own address, and then by its hash', async (which, name) => {
    const codes = new KnownCode({});
    const code = await codeAt(contracts[which]);
    const codeHash = hashOf(code);
    expect(codes.byHash(codeHash)).toBeUndefined();
    expect(codes.byCode(codeHash, code, contracts.kms)).toBeUndefined();
    expect(codes.byHash(codeHash)).toBeUndefined();
    expect(codes.byCode(codeHash, code, contracts[which])).toBe(name);
    expect(codes.byHash(codeHash)).toBe(name);
  });

  test('with any other byte is not known', async () => {
    const code = await codeAt(contracts.appImplementation);
    const codes = new KnownCode({});
    for (let at = 0; at < code.length; at += 7) {
      const changed = code.slice();
      changed[at]! ^= 0x10;
      expect(codes.byCode(hashOf(changed), changed, contracts.appImplementation)).toBeUndefined();
    }
    const longer = new Uint8Array([...code, 0]);
    expect(codes.byCode(hashOf(longer), longer, contracts.appImplementation)).toBeUndefined();
  });

  test('at another address is known there, and remembered within bounds', async () => {
    const codes = new KnownCode({});
    const { ownAddress } = builds.find(({ name }) => name === `dstack-app-${version}`)!;
    const code = await codeAt(contracts.appImplementation);
    const hashes = Array.from({ length: 1_100 }, (_, n) => {
      const address = n.toString(16).padStart(40, '0');
      const moved = code.slice();
      for (const offset of ownAddress) moved.set(fromHex(address), offset + 12);
      const codeHash = hashOf(moved);
      expect(codes.byCode(codeHash, moved, `0x${address}`)).toBe(`dstack-app-${version}`);
      return codeHash;
    });
    expect(hashes.filter((hash) => codes.byHash(hash) !== undefined)).toHaveLength(1_000);
    expect(codes.byHash(builds[0]!.hash)).toBe('erc1967-proxy');
  });
});

test('configured code hashes are known in any case of letters', () => {
  const hash = `0x${'AB'.repeat(32)}`;
  const configured: Record<string, CodeName> = { [hash]: 'dstack-app-2' };
  expect(new KnownCode(configured).byHash(hash.toLowerCase())).toBe('dstack-app-2');
  expect(new KnownCode({}).byHash(hash.toLowerCase())).toBeUndefined();
});
