/** Storage slots, and what Solidity itself says about them. */
import { type ContractName, loadArtifact } from '@dstack-cloud/contracts';
import { toHex, utf8 } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';
import { describe, expect, test } from 'vitest';
import { filled } from '../../test/facts.ts';
import {
  appExtensionSlot,
  appSlot,
  contentSlot,
  IMPLEMENTATION_SLOT,
  kmsExtensionSlot,
  kmsSlot,
  mappingSlot,
  slotBytes,
} from './slots.ts';

const hex = (slot: bigint): string => toHex(slotBytes(slot));
/** keccak256(abi.encode(uint256(keccak256(id)) - 1)) & ~0xff (ERC-7201) */
const namespace = (id: string): bigint => {
  const inner = BigInt(`0x${toHex(keccak256(utf8(id)))}`) - 1n;
  return contentSlot(inner) & ~0xffn;
};

test.each([
  [
    filled(32, 0x33),
    kmsSlot.allowedOsImages,
    '3c776a50a3a41fe363658e9433b432125a9fff98159d777a9253af5724fc1961',
  ],
  [
    filled(20, 0x22),
    kmsSlot.registeredApps,
    '2cec62055bbd080af8fed681b78db27e4112a34c503ce3e193ead958528817fb',
  ],
  [
    filled(32, 0x11),
    appSlot.allowedComposeHashes,
    '5c75bb376affa44a4f06c8a768453c2f7945122a65eb322a0dd3cc2edcbd6f0a',
  ],
])('mapping %#', (key, slot, expected) => expect(hex(mappingSlot(key, slot))).toBe(expected));

describe('named slots', () => {
  test('extensions begin at their namespaces', () => {
    expect(kmsExtensionSlot.state).toBe(namespace('dstack.storage.DstackKmsExt'));
    expect(appExtensionSlot.composeNotAfter - 2n).toBe(namespace('dstack.storage.DstackAppExt'));
  });

  test('ERC-1967', () => {
    const label = BigInt(`0x${toHex(keccak256(utf8('eip1967.proxy.implementation')))}`) - 1n;
    expect(IMPLEMENTATION_SLOT).toBe(label);
  });

  const slotsIn = (name: ContractName): Record<string, bigint> =>
    Object.fromEntries(
      loadArtifact(name).storageLayout.storage.map(({ label, slot }) => [label, BigInt(slot)]),
    );

  test('linear slots are the compiler’s', () => {
    expect(slotsIn('DstackKms')).toMatchObject(kmsSlot);
    const { flags, ...same } = appSlot;
    expect(slotsIn('DstackApp')).toMatchObject({ ...same, allowAnyDevice: flags });
  });
});
