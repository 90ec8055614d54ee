/**
 * What it costs to govern: `gas-snapshot.md` beside the package, which docs/contracts.md refers to. Accounts, salts and
 * signatures are the same each time. After a change that is meant to cost: run this file with `-u`.
 */
import {
  type Anvil,
  buildContracts,
  type ChainClient,
  connectChain,
  deployCode,
  deployKms,
  dstackKmsAbi,
  loadArtifact,
  startAnvil,
  transact,
} from '@dstack-cloud/contracts';
import { type Abi, type Address, encodeFunctionData, type Hex, zeroAddress, zeroHash } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { encodeMultiSend } from './safe/multi-send.ts';
import { readSafe } from './safe/read-safe.ts';
import { safeAbi } from './safe/safe-abi.ts';
import { safeArtifact } from './safe/safe-contracts.ts';
import { createSafe } from './safe/safe-proxy.ts';
import { safeTx, safeTxHash } from './safe/safe-tx.ts';
import { packSignatures } from './safe/signatures.ts';
import { type Call, cancelCall, executeCall, operationId, scheduleCall } from './timelock/operation.ts';

const DELAY = 3_600n;
const [DEPLOYER, ...SIGNERS] = [0, 1, 2, 3] as const;
const hash = (digit: string): Hex => `0x${digit.repeat(64)}`;

let anvil: Anvil;
let client: ChainClient;
beforeAll(async () => {
  await buildContracts();
  anvil = await startAnvil();
  client = await connectChain({ rpcUrl: anvil.rpcUrl, privateKey: anvil.accounts[DEPLOYER]!.privateKey });
}, 240_000);
afterAll(() => anvil?.stop());

test('gas of Safe and Timelock is as recorded', async () => {
  const rows: [string, bigint][] = [];
  const sent = async (label: string | undefined, { to, value, data }: Call): Promise<void> => {
    const transaction = await client.wallet.sendTransaction({ to, value, data });
    const { status, gasUsed } = await client.public.waitForTransactionReceipt({ hash: transaction });
    expect(status, label).toBe('success');
    if (label !== undefined) rows.push([label, gasUsed]);
  };
  const make = async (
    artifact: { abi: Abi; bytecode: Hex },
    args: readonly unknown[] = [],
  ): Promise<Address> => (await deployCode(client, artifact.abi, artifact.bytecode, args)).address;

  const { kms } = await deployKms({ client });
  const [singleton, factory, fallbackHandler, multiSend] = [
    await make(safeArtifact('SafeL2')),
    await make(safeArtifact('SafeProxyFactory')),
    await make(safeArtifact('CompatibilityFallbackHandler')),
    await make(safeArtifact('MultiSendCallOnly')),
  ];
  const owners = SIGNERS.map((index) => anvil.accounts[index]!.address);
  const proxyCode = safeArtifact('SafeProxy').bytecode;
  const parts = { factory, singleton, fallbackHandler, owners, threshold: 2, saltNonce: 0n, proxyCode };
  const { call: creation, address: safe } = createSafe(parts);
  await sent('make a Safe of three signers', creation);
  const timelockCode = loadArtifact('DstackTimelock');
  const timelockArgs = [DELAY, [safe], [safe], zeroAddress, 0n];
  const made = await deployCode(client, timelockCode.abi, timelockCode.bytecode, timelockArgs);
  rows.push(['deploy a Timelock', made.receipt.gasUsed]);
  const timelock = made.address;

  const bySafe = async (label: string | undefined, call: Call, operation: 0 | 1 = 0): Promise<void> => {
    const state = await readSafe(client.public, safe, await client.public.getBlockNumber());
    const tx = safeTx(call, state.nonce, operation);
    const id = safeTxHash(anvil.chainId, safe, tx);
    const signatures: Hex[] = [];
    for (const index of SIGNERS.slice(0, 2)) {
      signatures.push(await privateKeyToAccount(anvil.accounts[index]!.privateKey).sign({ hash: id }));
    }
    const args = [
      ...([tx.to, tx.value, tx.data, tx.operation, 0n, 0n, 0n, zeroAddress, zeroAddress] as const),
      await packSignatures(state, id, signatures),
    ] as const;
    const data = encodeFunctionData({ abi: safeAbi, functionName: 'execTransaction', args });
    await sent(label, { to: safe, value: 0n, data });
  };
  const addImage = (digit: string): Call => ({
    ...{ to: kms, value: 0n },
    data: encodeFunctionData({ abi: dstackKmsAbi, functionName: 'addOsImageHash', args: [hash(digit)] }),
  });

  await transact(client, kms, dstackKmsAbi as Abi, 'transferOwnership', [safe]);
  await bySafe('Safe, 2 of 3: allow an OS image', addImage('1'));
  const batch = { to: multiSend, value: 0n, data: encodeMultiSend(['2', '3', '4'].map(addImage)) };
  await bySafe('Safe, 2 of 3: allow three OS images in one batch', batch, 1);
  await bySafe(undefined, {
    ...{ to: kms, value: 0n },
    data: encodeFunctionData({ abi: dstackKmsAbi, functionName: 'transferOwnership', args: [timelock] }),
  });
  const operation = (salt: string, digits: readonly string[]) => {
    const calls = digits.map(addImage);
    return { calls, predecessor: zeroHash, salt: hash(salt), isBatch: calls.length > 1 };
  };
  const [one, three, unwanted] = [
    operation('a', ['5']),
    operation('b', ['6', '7', '8']),
    operation('c', ['9']),
  ];
  await bySafe('Safe, 2 of 3: schedule one call', scheduleCall(timelock, one, DELAY));
  await bySafe('Safe, 2 of 3: schedule three calls as one operation', scheduleCall(timelock, three, DELAY));
  await bySafe(undefined, scheduleCall(timelock, unwanted, DELAY));
  await bySafe('Safe, 2 of 3: cancel an operation', cancelCall(timelock, operationId(unwanted)));
  const request = client.public.request as (call: object) => Promise<unknown>;
  await request({ method: 'evm_increaseTime', params: [Number(DELAY)] });
  await request({ method: 'evm_mine', params: [] });
  await bySafe('Safe, 2 of 3: execute one call', executeCall(timelock, one));
  await bySafe('Safe, 2 of 3: execute three calls as one operation', executeCall(timelock, three));
  const args = [hash('f')] as const;
  const approval = encodeFunctionData({ abi: safeAbi, functionName: 'approveHash', args });
  const signer = await connectChain({ rpcUrl: anvil.rpcUrl, privateKey: anvil.accounts[1]!.privateKey });
  const approved = await signer.wallet.sendTransaction({ to: safe, data: approval });
  rows.push([
    'approve a Safe transaction on chain',
    (await client.public.waitForTransactionReceipt({ hash: approved })).gasUsed,
  ]);

  const text = [
    'Safe 1.4.1 with two of three signatures, and DstackTimelock, measured on a local chain.',
    '',
    '| Operation | Gas |',
    '| --- | --- |',
    ...rows.map(([label, gas]) => `| ${label} | ${gas.toLocaleString('en-US')} |`),
    '',
  ].join('\n');
  await expect(text).toMatchFileSnapshot(`${import.meta.dirname}/../gas-snapshot.md`);
}, 240_000);
