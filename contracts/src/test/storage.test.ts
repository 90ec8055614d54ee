/** Storage: linear slots that proxies of the 0.6 line share. */
import { concat, encodeAbiParameters, type Hex, keccak256, numberToHex, pad, toHex } from 'viem';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  contractsDirectory,
  loadArtifact,
  loadRelease,
  releases,
  type StorageVariable,
} from '../artifact.ts';
import { runCompiler } from '../compile.ts';
import { addComposeHash, addOsImageHash, registerApp } from '../manage.ts';
import { sourcesOf } from './build-info.ts';
import { repeated, startTestChain, type TestChain } from './test-chain.ts';

let chain: TestChain;
beforeAll(async () => {
  chain = await startTestChain();
});
afterAll(() => chain?.anvil.stop());

const layoutOf = (name: 'DstackKms' | 'DstackApp'): string[] =>
  loadArtifact(name).storageLayout.storage.map(({ label, slot, offset }) => `${slot}.${offset} ${label}`);

const mappingSlot = (key: Hex, slot: number): Hex =>
  keccak256(concat([pad(key, { size: 32 }), pad(numberToHex(slot), { size: 32 })]));

/** keccak256(abi.encode(uint256(keccak256(id)) - 1)) & ~0xff */
function erc7201(id: string): string {
  const inner = BigInt(keccak256(toHex(id))) - 1n;
  const outer = BigInt(keccak256(encodeAbiParameters([{ type: 'uint256' }], [inner])));
  return (outer & ~0xffn).toString(16).padStart(64, '0');
}

describe('linear layout', () => {
  test('DstackKms', () => {
    expect(layoutOf('DstackKms')).toEqual([
      '0.0 kmsInfo',
      '4.0 gatewayAppId',
      '5.0 registeredApps',
      '6.0 kmsAllowedAggregatedMrs',
      '7.0 kmsAllowedDeviceIds',
      '8.0 allowedOsImages',
      '9.0 appImplementation',
      '10.0 __gap',
    ]);
  });
  test('DstackApp', () => {
    expect(layoutOf('DstackApp')).toEqual([
      '0.0 allowedComposeHashes',
      '1.0 _upgradesDisabled',
      '1.1 allowAnyDevice',
      '2.0 allowedDeviceIds',
      '3.0 requireTcbUpToDate',
      '4.0 __gap',
    ]);
  });
  test.each([
    ['DstackKms', 10 + 50],
    ['DstackApp', 3 + 50],
  ] as const)('%s ends where the 0.6 line ends', (name, end) => {
    const gap = loadArtifact(name).storageLayout.storage.at(-1);
    const slots = /t_array\(t_uint256\)(\d+)_storage/.exec(gap?.type ?? '')?.[1];
    expect(Number(gap?.slot) + Number(slots)).toBe(end);
  });
  describe.each(releases)('release %s', (release) => {
    test.each(['DstackKms', 'DstackApp'] as const)('has each variable of %s where it is now', (name) => {
      const now = loadArtifact(name).storageLayout.storage;
      const before = loadRelease(release, name).storageLayout.storage.filter(
        ({ label }) => label !== '__gap',
      );
      // Types are named with numbers that change with every compilation.
      const plain = (variables: readonly StorageVariable[]): object[] =>
        variables.map(({ type, ...rest }) => ({ ...rest, type: type.replace(/\)\d+_/g, ')_') }));
      expect(plain(now).slice(0, before.length)).toEqual(plain(before));
    });
  });
});

describe('namespaced structs', () => {
  // A contract that holds the structs lets the compiler tell where their members are.
  const probe = `// SPDX-License-Identifier: Apache-2.0
    pragma solidity ^0.8.22;
    import {KmsStorage} from "./KmsStorage.sol";
    import {DstackApp} from "./DstackApp.sol";
    import {PolicyDelay} from "./PolicyDelay.sol";
    contract Probe {
      KmsStorage.DstackKmsExt kms; DstackApp.DstackAppExt app; PolicyDelay.PolicyDelayState delay;
    }`;

  test('have every member where state proofs read it; new ones are appended', () => {
    const sources = sourcesOf(undefined).set('contracts/Probe.sol', probe);
    const { output } = runCompiler(sources, contractsDirectory, {
      'contracts/Probe.sol': { '*': ['storageLayout'] },
    });
    const layout = output.contracts!['contracts/Probe.sol']!['Probe']!.storageLayout!;
    const members = layout.storage.map(({ type }) =>
      (layout.types![type]!.members ?? []).map(
        ({ slot, offset, label, type: member }) =>
          `${slot}.${offset} ${layout.types![member]!.label} ${label}`,
      ),
    );
    expect(members).toEqual([
      [
        '0.0 uint64 epoch',
        '0.8 bool paused',
        '1.0 mapping(address => bool) guardians',
        '2.0 mapping(address => bool) blocked',
        '3.0 mapping(bytes32 => uint64) osNotAfter',
        '4.0 mapping(address => uint64) appNotAfter',
        '5.0 mapping(bytes32 => bool) deniedAdvisories',
      ],
      [
        '0.0 uint64 epoch',
        '0.8 address kms',
        '1.0 mapping(address => bool) guardians',
        '2.0 mapping(bytes32 => uint64) composeNotAfter',
      ],
      [
        '0.0 uint64 delay',
        '0.8 uint64 since',
        '0.16 uint64 previousDelay',
        '0.24 uint64 previousSince',
        '1.0 address guarded',
        '1.20 uint64 ownerSince',
        '2.0 mapping(bytes32 => uint64) announcedAt',
      ],
    ]);
  }, 120_000);
});

describe('namespaced slots', () => {
  test.each([
    [
      'openzeppelin.storage.Initializable',
      'f0c57e16840df040f15088dc2f81fe391c3923bec73e23a9662efc9c229c6a00',
    ],
    ['openzeppelin.storage.Ownable', '9016d09d72d40fdae2fd8ceac6b6234c7706214fd39c1cd1e609a0528c199300'],
    ['openzeppelin.storage.Ownable2Step', '237e158222e3e6968b72b9db0d8043aacf074ad9f650f0d1606b4d82ee432c00'],
    ['dstack.storage.DstackKmsExt', '73d0001025a09922cc035ecb5964a5e707f8610a2012e1cf98cf6a27908dfb00'],
    ['dstack.storage.PolicyDelay', 'd611bd2baa7e60ab444b119f78bb875b950591ea25ff5a1bf49fdbaacb314d00'],
    ['dstack.storage.DstackAppExt', '451ed33d735f5df28dda509c37110ec8f232f1d0ad223da5b44858684af11800'],
  ])('%s', (id, slot) => expect(erc7201(id)).toBe(slot));

  test('the owner lies in its namespace', async () => {
    const slot = `0x${erc7201('openzeppelin.storage.Ownable')}` as const;
    const value = await chain.owner.public.getStorageAt({ address: chain.kms, slot });
    expect(value).toBe(pad(chain.owner.account.address.toLowerCase() as Hex, { size: 32 }));
  });

  test('the implementation lies in the ERC-1967 slot', async () => {
    const slot = '0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc';
    const value = await chain.owner.public.getStorageAt({ address: chain.kms, slot });
    expect(value).toBe(pad(chain.deployment.kmsImplementation.toLowerCase() as Hex, { size: 32 }));
  });
});

describe('mapping slots, as a state proof would read them', () => {
  const read = (address: Hex, slot: Hex): Promise<Hex | undefined> =>
    chain.owner.public.getStorageAt({ address, slot });
  const one = pad('0x1', { size: 32 });

  test('allowedOsImages', async () => {
    const slot = mappingSlot(repeated('33', 32), 8);
    expect(slot).toBe('0x3c776a50a3a41fe363658e9433b432125a9fff98159d777a9253af5724fc1961');
    await addOsImageHash(chain.owner, chain.kms, repeated('33', 32));
    expect(await read(chain.kms, slot)).toBe(one);
  });
  test('registeredApps', async () => {
    const slot = mappingSlot(repeated('22', 20), 5);
    expect(slot).toBe('0x2cec62055bbd080af8fed681b78db27e4112a34c503ce3e193ead958528817fb');
    await registerApp(chain.stranger, chain.kms, repeated('22', 20));
    expect(await read(chain.kms, slot)).toBe(one);
  });
  test('allowedComposeHashes', async () => {
    const slot = mappingSlot(repeated('11', 32), 0);
    expect(slot).toBe('0x5c75bb376affa44a4f06c8a768453c2f7945122a65eb322a0dd3cc2edcbd6f0a');
    await addComposeHash(chain.owner, chain.app, repeated('11', 32));
    expect(await read(chain.app, slot)).toBe(one);
  });
});
