import { concatHex, type Hex, hashMessage, recoverAddress, size, slice, toHex } from 'viem';
import { privateKeyToAccount, sign } from 'viem/accounts';
import { describe, expect, test } from 'vitest';
import { safeTx, safeTxHash, safeTypedData } from './safe-tx.ts';
import { ownersAmong, ownersWhoSigned, packSignatures, recoverSigner } from './signatures.ts';

const key = (n: number): Hex => `0x${n.toString(16).padStart(64, '0')}`;
const accounts = [1, 2, 3, 4].map((n) => privateKeyToAccount(key(n)));
const owners = accounts.slice(0, 3).map(({ address }) => address);
const safe = { address: '0x00000000000000000000000000000000000000aa', owners, threshold: 2 } as const;
const tx = safeTx({ to: '0x00000000000000000000000000000000000000bb', value: 0n, data: '0x1234' }, 7n);
const hash = safeTxHash(31_337, safe.address, tx);
const signed = (index: number, of = hash): Promise<Hex> => accounts[index]!.sign({ hash: of });

describe('signatures of a Safe transaction', () => {
  test('typed data is signed as the hash', async () => {
    const typed = await accounts[0]!.signTypedData(safeTypedData(31_337, safe.address, tx));
    expect(await recoverSigner(hash, typed)).toEqual({ signer: owners[0], signature: typed });
  });

  test('of owners are told from those of others, such as a signer who was replaced', async () => {
    const signatures = [
      await signed(3),
      await signed(1),
      await signed(0, `0x${'12'.repeat(32)}`),
      '0x12',
    ] as const;
    expect(await ownersAmong(safe, hash, signatures)).toEqual([owners[1]]);
  });

  test('are packed in ascending order of the owners, as many as are needed', async () => {
    const packed = await packSignatures(
      safe,
      hash,
      await Promise.all([2, 0, 1].map((index) => signed(index))),
    );
    expect(size(packed)).toBe(2 * 65);
    const signers = await Promise.all(
      [0, 1].map((at) => recoverAddress({ hash, signature: slice(packed, at * 65, at * 65 + 65) })),
    );
    expect(signers).toEqual([...owners].sort((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1)).slice(0, 2));
  });

  test('of eth_sign count, with v 31 or 32', async () => {
    const message = hashMessage({ raw: hash });
    const { r, s, yParity } = await sign({ hash: message, privateKey: key(2) });
    const signature = concatHex([r, s, toHex(31 + (yParity ?? 0))]);
    expect((await recoverSigner(hash, signature)).signer).toBe(owners[1]);
  });

  test('on-chain approvals take the place of signatures', async () => {
    const packed = await packSignatures(safe, hash, [await signed(0)], [owners[1]!]);
    expect(packed).toContain(`${owners[1]!.slice(2).toLowerCase()}${'0'.repeat(64)}01`);
  });

  test('of a contract (EIP-1271) is refused by name, with what to do instead', async () => {
    await expect(recoverSigner(hash, `0x${'11'.repeat(64)}00`)).rejects.toMatchObject({
      message: expect.stringContaining('EIP-1271'),
      hint: expect.stringContaining('approveHash'),
    });
  });

  test('one owner who signs twice is one owner', async () => {
    const twice = [await signed(0), await signed(0)];
    expect(await ownersWhoSigned(safe, hash, twice)).toHaveLength(1);
    await expect(packSignatures(safe, hash, twice)).rejects.toMatchObject({ code: 'not-ready' });
    await expect(packSignatures(safe, hash, [twice[0]!], [owners[0]!])).rejects.toMatchObject({
      code: 'not-ready',
    });
  });

  test.each([
    ['somebody who is no owner', async () => signed(3)],
    ['another chain', async () => signed(0, safeTxHash(1, safe.address, tx))],
    ['another nonce', async () => signed(0, safeTxHash(31_337, safe.address, { ...tx, nonce: 8n }))],
    ['another Safe', async () => signed(0, safeTxHash(31_337, owners[0]!, tx))],
    ['other data', async () => signed(0, safeTxHash(31_337, safe.address, { ...tx, data: '0x1235' }))],
    ['a delegatecall', async () => signed(0, safeTxHash(31_337, safe.address, { ...tx, operation: 1 }))],
  ])('of %s are refused', async (_, make) => {
    await expect(ownersWhoSigned(safe, hash, [await make()])).rejects.toMatchObject({
      code: 'bad-signature',
    });
  });

  test.each([
    ['too short', `0x${'11'.repeat(64)}`],
    ['too long', `0x${'11'.repeat(66)}`],
    ['no hex', '0xzz'],
    ['of a contract (v 0)', `0x${'11'.repeat(64)}00`],
    ['claims an approval (v 1)', `0x${'11'.repeat(64)}01`],
    ['zero', `0x${'00'.repeat(64)}1b`],
    ['beyond the curve', `0x${'ff'.repeat(64)}1c`],
  ])('that are malformed are refused: %s', async (_, signature) => {
    await expect(recoverSigner(hash, signature as Hex)).rejects.toMatchObject({ code: 'bad-signature' });
  });
});
