/** Every model of governance but C, from its deployment to a change that is in effect, on one chain. */
import { readFile } from 'node:fs/promises';
import { type Anvil, buildContracts, dstackKmsAbi, startAnvil } from '@dstack-cloud/contracts';
import {
  createSafe,
  packSignatures,
  readSafe,
  safeAbi,
  safeArtifact,
  safeTx,
  safeTxHash,
} from '@dstack-cloud/governance';
import {
  type Address,
  createPublicClient,
  encodeFunctionData,
  type Hex,
  http,
  type PublicClient,
} from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { Sandbox } from '../testing.ts';

vi.setConfig({ testTimeout: 240_000 });

const DELAY = 3_600;
const [DEPLOYER, A, B, GUARDIAN, STRANGER] = [0, 1, 2, 3, 4] as const;
const hash = (digit: string): Hex => `0x${digit.repeat(64)}`;

let anvil: Anvil;
let chain: PublicClient;
const boxes: Sandbox[] = [];

beforeAll(async () => {
  await buildContracts();
  anvil = await startAnvil();
  chain = createPublicClient({ transport: http(anvil.rpcUrl) });
}, 240_000);
afterAll(async () => {
  await anvil?.stop();
  for (const box of boxes) box.remove();
});

const account = (index: number): Address => anvil.accounts[index]!.address;
type Answer = { readonly file: string; readonly operation: string; readonly [name: string]: unknown };

/** The governance of one folder, and who acts in it. */
class Domain {
  readonly box: Sandbox = new Sandbox();
  kms: Address = '0x';
  safe: Address = '0x';
  constructor() {
    boxes.push(this.box);
  }
  async run(index: number, ...argv: string[]) {
    this.box.env = { RPC_URL: anvil.rpcUrl, PRIVATE_KEY: anvil.accounts[index]!.privateKey };
    return await this.box.run('gov', ...argv, '--network', 'test', '--yes', '--json');
  }
  async ok(index: number, ...argv: string[]): Promise<Answer> {
    const { code, stdout, stderr } = await this.run(index, ...argv);
    expect(code, `${argv.join(' ')}\n${stdout}\n${stderr}`).toBe(0);
    return JSON.parse(stdout);
  }
  async refused(index: number, ...argv: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(index, ...argv);
    expect(code, stdout).not.toBe(0);
    return stderr;
  }
  async deploy(...argv: string[]): Promise<void> {
    const deployed = await this.ok(DEPLOYER, 'deploy', ...argv, '--guardian', account(GUARDIAN));
    expect(deployed).toMatchObject({ deployed: true, complete: true });
    this.kms = deployed['kms'] as Address;
    this.safe = (deployed['safe'] ?? '0x') as Address;
  }
  async allows(image: Hex): Promise<boolean> {
    const read = { address: this.kms, abi: dstackKmsAbi, functionName: 'allowedOsImages' } as const;
    return await chain.readContract({ ...read, args: [image] });
  }
}

async function rpc(method: string, ...params: unknown[]): Promise<unknown> {
  return await (chain.request as (one: object) => Promise<unknown>)({ method, params });
}
async function pass(seconds: number): Promise<void> {
  await rpc('evm_increaseTime', seconds);
  await rpc('evm_mine');
}
/** From an account that anvil has the key of. */
async function send(to: Address, data: Hex): Promise<void> {
  const sent = (await rpc('eth_sendTransaction', { from: account(STRANGER), to, data })) as Hex;
  expect((await chain.waitForTransactionReceipt({ hash: sent })).status).toBe('success');
}

describe('model A: one account', () => {
  const domain = new Domain();
  test('changes at once, several things in one transaction; a guardian takes away', async () => {
    await domain.deploy('--model', 'A', '--owner', account(A));
    const status = await domain.ok(STRANGER, 'status');
    expect(JSON.stringify(status)).toContain(`the account ${account(A)}; takes effect at once`);
    expect(await domain.refused(B, 'propose', 'kms:add-image', hash('1'))).toContain('may not do this');
    const both = ['kms:add-image', hash('1'), '+', 'kms:add', hash('2')];
    expect(await domain.ok(A, 'propose', ...both)).toMatchObject({ sent: true });
    expect(await domain.allows(hash('1'))).toBe(true);
    await domain.ok(GUARDIAN, 'emergency-revoke', 'image', hash('1'));
    expect(await domain.allows(hash('1'))).toBe(false);
  });

  test('with a policy delay: announced, refused before the delay, made after it', async () => {
    await domain.ok(A, 'propose', 'kms:set-policy-delay', String(DELAY));
    expect(await domain.refused(A, 'propose', 'kms:add-image', hash('3'))).toContain(
      'Announce it with --announce',
    );
    // What would fail later is not made public.
    const bad = await domain.refused(A, 'propose', 'kms:upgrade', account(B), '--announce');
    expect(bad).toContain('no UUPS implementation');
    const announced = await domain.ok(A, 'propose', 'kms:add-image', hash('3'), '--announce');
    expect(announced['effect']).toEqual([
      'make public, to be made after the policy delay, on DstackKms',
      `  allow OS image ${hash('3')}, on DstackKms`,
    ]);
    expect(await domain.allows(hash('3'))).toBe(false);
    expect(await domain.refused(A, 'propose', 'kms:add-image', hash('3'))).toContain('policy delay');
    const { stdout: recent } = await domain.run(STRANGER, 'health');
    expect(recent).toContain('is recent');
    await pass(DELAY);
    await domain.ok(A, 'propose', 'kms:add-image', hash('3'));
    expect(await domain.allows(hash('3'))).toBe(true);
    const { stdout } = await domain.run(STRANGER, 'health');
    expect(stdout).toContain('every addition is public for 1 hour before it counts');
  });
});

describe('model B: one account and a Timelock', () => {
  const domain = new Domain();
  test('schedules, waits, is executed by anybody; cancels', async () => {
    const delay = ['--delay', String(DELAY), '--executor', 'anyone'];
    await domain.deploy('--model', 'B', '--proposer', account(A), ...delay);
    const proposed = await domain.ok(A, 'propose', 'kms:add-image', hash('1'), '+', 'kms:add', hash('2'));
    expect(proposed).toMatchObject({ sent: true, delay_seconds: DELAY });
    expect(await domain.refused(STRANGER, 'execute', proposed.operation)).toContain('is not over');
    expect(await domain.refused(B, 'propose', 'kms:add-image', hash('1'))).toContain('may not do this');
    expect(await domain.refused(B, 'cancel', proposed.operation)).toContain('may not do this');
    await pass(DELAY);
    await domain.ok(STRANGER, 'execute', proposed.operation);
    expect(await domain.allows(hash('1'))).toBe(true);
    const unwanted = await domain.ok(A, 'propose', 'kms:add-image', hash('3'));
    await domain.ok(A, 'cancel', unwanted.operation);
    await pass(DELAY);
    expect(await domain.refused(STRANGER, 'execute', unwanted.operation)).toContain('was cancelled');
    expect(await domain.allows(hash('3'))).toBe(false);
  });
});

describe('model multisig: a Safe without a delay', () => {
  const domain = new Domain();
  test('a batch goes through MultiSend as one transaction', async () => {
    await domain.deploy(
      '--model',
      'multisig',
      '--signer',
      account(A),
      '--signer',
      account(B),
      '--threshold',
      '2',
    );
    const proposed = await domain.ok(
      A,
      'propose',
      'kms:add-image',
      hash('1'),
      '+',
      'kms:add-image',
      hash('2'),
    );
    await domain.ok(B, 'approve', proposed.file);
    expect(await domain.ok(STRANGER, 'submit', proposed.file)).toMatchObject({ sent: true, operation: null });
    expect([await domain.allows(hash('1')), await domain.allows(hash('2'))]).toEqual([true, true]);
  });

  test('a signer who approves on chain counts, once', async () => {
    const proposed = await domain.ok(A, 'propose', 'kms:add-image', hash('3'));
    expect(await domain.refused(STRANGER, 'approve', proposed.file, '--on-chain')).toContain(
      'does not sign for',
    );
    expect(await domain.refused(STRANGER, 'submit', proposed.file)).toContain('1 of 2 signatures are there');
    expect(await domain.ok(B, 'approve', proposed.file, '--on-chain', '--dry-run')).toMatchObject({
      sent: false,
    });
    expect(await domain.ok(B, 'approve', proposed.file, '--on-chain')).toMatchObject({
      sent: true,
      signatures: 2,
    });
    expect(await domain.ok(STRANGER, 'submit', proposed.file)).toMatchObject({ sent: true });
    expect(await domain.allows(hash('3'))).toBe(true);
  });

  test('a signer that is a contract approves on chain; its signature is refused by name', async () => {
    const inner = await nestedSafe();
    const join = await domain.ok(A, 'propose', 'signer:swap', account(B), inner);
    await domain.ok(B, 'approve', join.file);
    await domain.ok(STRANGER, 'submit', join.file);
    const proposed = await domain.ok(A, 'propose', 'kms:add-image', hash('4'));
    expect(await domain.refused(STRANGER, 'submit', proposed.file)).toContain('1 of 2 signatures are there');
    // The account behind the contract is no signer itself.
    expect(await domain.refused(B, 'approve', proposed.file)).toContain('does not sign for');
    const args = [proposed['hash'] as Hex] as const;
    await executeInner(inner, {
      ...{ to: domain.safe, value: 0n },
      data: encodeFunctionData({ abi: safeAbi, functionName: 'approveHash', args }),
    });
    expect(await domain.ok(STRANGER, 'submit', proposed.file)).toMatchObject({ sent: true });
    expect(await domain.allows(hash('4'))).toBe(true);
  });

  /** A Safe of B alone. */
  async function nestedSafe(): Promise<Address> {
    const { made } = JSON.parse(await readFile(domain.box.path('governance.json'), 'utf8'));
    const { call, address } = createSafe({
      ...{ factory: made.SafeProxyFactory, singleton: made.SafeL2 },
      ...{ fallbackHandler: made.CompatibilityFallbackHandler, owners: [account(B)], threshold: 1 },
      ...{ saltNonce: 77n, proxyCode: safeArtifact('SafeProxy').bytecode },
    });
    await send(call.to, call.data);
    return address;
  }

  async function executeInner(
    inner: Address,
    call: { to: Address; value: bigint; data: Hex },
  ): Promise<void> {
    const safe = await readSafe(chain, inner, await chain.getBlockNumber());
    const tx = safeTx(call, safe.nonce, 0);
    const innerHash = safeTxHash(anvil.chainId, inner, tx);
    const signature = await privateKeyToAccount(anvil.accounts[B]!.privateKey).sign({ hash: innerHash });
    const signatures = await packSignatures(safe, innerHash, [signature]);
    const { to, value, data, operation, safeTxGas, baseGas, gasPrice, gasToken, refundReceiver } = tx;
    const args = [
      ...([to, value, data, operation, safeTxGas, baseGas, gasPrice, gasToken, refundReceiver] as const),
      signatures,
    ] as const;
    await send(inner, encodeFunctionData({ abi: safeAbi, functionName: 'execTransaction', args }));
  }
});
