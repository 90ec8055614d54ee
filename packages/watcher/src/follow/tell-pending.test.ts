/** What is pending when a watcher starts for the first time, on a real chain: told once, whatever interrupts it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Anvil,
  type ChainClient,
  deployCode,
  deployKms,
  dstackKmsAbi,
  loadArtifact,
  transact,
} from '@dstack-cloud/contracts';
import { safeAbi, timelockAbi } from '@dstack-cloud/governance';
import {
  type Abi,
  type Address,
  encodeAbiParameters,
  encodeFunctionData,
  type Hex,
  keccak256,
  zeroAddress,
  zeroHash,
} from 'viem';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { checkTable, type WatchConfig } from '../config/schema.ts';
import type { Message } from '../sinks/deliver.ts';
import { StateStore } from '../state/state-store.ts';
import { deploySafe, deployTimelock, startChain } from '../test/real-chain.ts';
import { watchGovernance } from '../watch.ts';

const DELAY = 3_600n;
const hash = (digit: string): Hex => `0x${digit.repeat(64)}`;
const salt = (name: string): Hex => keccak256(new TextEncoder().encode(name));
const call = (functionName: string, ...args: unknown[]): Hex =>
  encodeFunctionData({ abi: dstackKmsAbi as Abi, functionName, args });

let anvil: Anvil;
let owner: ChainClient;
let kms: Address;
let timelock: Address;
let safe: Address;
let folder: string;
/** How far the chain's time is ahead of ours. */
let ahead = 0;
const write = (name: string, ...args: unknown[]) => transact(owner, timelock, timelockAbi as Abi, name, args);
const schedule = (data: Hex, name: string) => write('schedule', kms, 0n, data, zeroHash, salt(name), DELAY);
const execute = (data: Hex, name: string) => write('execute', kms, 0n, data, zeroHash, salt(name));
const idOf = (data: Hex, name: string): Hex =>
  keccak256(
    encodeAbiParameters(
      [{ type: 'address' }, { type: 'uint256' }, { type: 'bytes' }, { type: 'bytes32' }, { type: 'bytes32' }],
      [kms, 0n, data, zeroHash, salt(name)],
    ),
  );
const request = (method: string, ...params: unknown[]): Promise<unknown> =>
  (owner.public.request as (call: object) => Promise<unknown>)({ method, params });
/** By the account as it is after a reorganisation: the client counts its transactions itself. */
async function sent(functionName: string, ...args: unknown[]): Promise<void> {
  const data = encodeFunctionData({ abi: timelockAbi as Abi, functionName, args });
  const from = { from: owner.account.address, to: timelock, gas: '0x100000' };
  const hash = (await request('eth_sendTransaction', { ...from, data })) as Hex;
  await owner.public.waitForTransactionReceipt({ hash });
}
async function later(seconds: number): Promise<void> {
  await request('evm_increaseTime', seconds);
  await request('evm_mine');
  ahead += seconds;
}

beforeAll(async () => {
  const chain = await startChain();
  anvil = chain.anvil;
  owner = await chain.client(0);
  const { address } = owner.account;
  kms = (await deployKms({ client: owner })).kms;
  timelock = await deployTimelock(owner, DELAY, address);
  safe = await deploySafe(owner, [address], 1);
  const kmsWrite = (name: string, ...args: unknown[]) =>
    transact(owner, kms, dstackKmsAbi as Abi, name, args);
  await kmsWrite('setPolicyDelay', 2n);
  for (const digit of ['7', '8', '9']) await kmsWrite('announce', call('addOsImageHash', hash(digit)));
  await kmsWrite('retract', keccak256(call('addOsImageHash', hash('8'))));
  await later(3);
  await kmsWrite('addOsImageHash', hash('9'));
  await kmsWrite('transferOwnership', timelock);
  await transact(owner, safe, safeAbi as Abi, 'approveHash', [hash('5')]);

  await schedule(call('setGatewayAppId', 'done'), 'executed');
  await later(Number(DELAY) + 1);
  await execute(call('setGatewayAppId', 'done'), 'executed');
  await schedule(call('addOsImageHash', hash('1')), 'like others');
  await schedule(call('setGuardian', owner.account.address, true), 'suspicious');
  await schedule(call('addOsImageHash', hash('2')), 'cancelled');
  await write('cancel', idOf(call('addOsImageHash', hash('2')), 'cancelled'));
  await schedule(call('addOsImageHash', hash('3')), 'once more');
  await write('cancel', idOf(call('addOsImageHash', hash('3')), 'once more'));
  await schedule(call('addOsImageHash', hash('3')), 'once more');
  const batch = [call('addOsImageHash', hash('4')), call('upgradeToAndCall', safe, '0x')];
  await write('scheduleBatch', [kms, kms], [0n, 0n], batch, zeroHash, salt('batch'), DELAY);
  folder = mkdtempSync(join(tmpdir(), 'watch-pending-'));
}, 180_000);
afterAll(async () => {
  await anvil?.stop();
  if (folder) rmSync(folder, { recursive: true, force: true });
});
afterEach(() => vi.restoreAllMocks());

function config(state: string): WatchConfig {
  const checked = checkTable({
    rpc_urls: [anvil.rpcUrl],
    kms_contract: kms,
    safes: [safe],
    state_path: join(folder, state),
    alerts: { stale_seconds: 86_400, participation: 0, queue_depth: 100 },
  });
  if ('issues' in checked) throw new Error(JSON.stringify(checked.issues));
  return checked.config;
}

/** One start. @param messages gets each one that was written, also before a failure */
async function start(state: string, messages: Message[] = []): Promise<Message[]> {
  await watchGovernance({
    config: config(state),
    once: true,
    signal: new AbortController().signal,
    onMessage: (message) => void messages.push(message),
    now: () => Date.now() / 1_000 + ahead,
  });
  return messages;
}
const told = (messages: readonly Message[]): string[] =>
  messages.map(({ rule, severity, text }) => {
    const what = /setGatewayAppId|allow OS image 0x\w|guardian|code|approved/.exec(text)?.[0];
    return `${severity} ${rule}: ${what ?? text}`;
  });
const PENDING = [
  'critical suspicious-proposal: code',
  'critical suspicious-proposal: guardian',
  'info new-proposal: approved',
  'warning new-proposal: allow OS image 0x1',
  'warning new-proposal: allow OS image 0x3',
  'warning new-proposal: allow OS image 0x4',
  'warning new-proposal: allow OS image 0x7',
  'warning new-proposal: guardian',
];

test('what is pending at the first start is told once; what was executed, cancelled, retracted or made is not', async () => {
  const first = await start('once');
  expect(told(first).sort()).toEqual(PENDING);
  for (const { text } of first) expect(text).toMatch(/^Pending since before it was watched: /);
  expect(await start('once')).toEqual([]);
  await schedule(call('addOsImageHash', hash('6')), 'after the start');
  expect(told(await start('once'))).toEqual(['warning new-proposal: allow OS image 0x6']);
  expect(await start('once')).toEqual([]);
  await write('cancel', idOf(call('addOsImageHash', hash('6')), 'after the start'));
}, 120_000);

test('a contract that the configuration names later tells what it has pending then', async () => {
  const { abi, bytecode } = loadArtifact('DstackTimelock');
  const { address } = owner.account;
  const roles = [[address], [address], zeroAddress];
  const other = (await deployCode(owner, abi, bytecode, [DELAY, ...roles, 0n])).address;
  await start('more');
  const args = [kms, 0n, call('pause'), zeroHash, salt('other'), DELAY];
  await transact(owner, other, timelockAbi as Abi, 'schedule', args);
  const messages: Message[] = [];
  const run = () =>
    watchGovernance({
      config: { ...config('more'), timelocks: [other] },
      once: true,
      signal: new AbortController().signal,
      onMessage: (message) => void messages.push(message),
      now: () => Date.now() / 1_000 + ahead,
    });
  await run();
  await run();
  expect(new Set(messages.map(({ contract }) => contract))).toEqual(new Set([other.toLowerCase()]));
  expect(messages.map(({ rule }) => rule)).toEqual([
    'new-proposal',
    'suspicious-proposal',
    // It owns nothing.
    'failing-proposal',
  ]);
}, 120_000);

test('a kill at any write of the first start neither loses nor repeats what is pending', async () => {
  const real = (StateStore.prototype as unknown as { write: (...args: unknown[]) => Promise<void> }).write;
  let writes = 0;
  const spy = vi.spyOn(StateStore.prototype as unknown as { write: typeof real }, 'write');
  spy.mockImplementation(async function (this: unknown, ...args: unknown[]) {
    writes += 1;
    await real.apply(this, args);
  });
  await start('count');
  const all = writes;
  expect(all).toBeGreaterThan(2);
  for (let at = 1; at <= all; at += 1) {
    for (const when of ['before', 'after']) {
      let count = 0;
      spy.mockImplementation(async function (this: unknown, ...args: unknown[]) {
        count += 1;
        if (count === at && when === 'before') throw new Error('killed');
        await real.apply(this, args);
        if (count === at) throw new Error('killed');
      });
      const state = `kill-${at}-${when}`;
      const messages: Message[] = [];
      await start(state, messages).catch((error: Error) => {
        if (error.message !== 'killed') throw error;
      });
      expect(count, state).toBeGreaterThanOrEqual(at);
      spy.mockImplementation(real);
      await start(state, messages);
      // A message that was written and not yet noted as written comes again, and is the same.
      const distinct = new Map(messages.map((message) => [message.sequence, message]));
      expect(told([...distinct.values()]).sort(), state).toEqual(PENDING);
      expect(new Set(messages.map(({ id }) => id)).size, state).toBe(PENDING.length);
      expect(await start(state), state).toEqual([]);
    }
  }
}, 240_000);

test('when a reorganisation takes back what had ended a proposal, it is pending, and told', async () => {
  const snapshot = await request('evm_snapshot');
  await sent('cancel', idOf(call('addOsImageHash', hash('1')), 'like others'));
  const messages = await start('fresh');
  expect(told(messages).sort()).toEqual(PENDING.filter((text) => !text.endsWith('0x1')));
  await request('evm_revert', snapshot);
  // In place of a block that was read: as new as any other.
  await sent('schedule', kms, 0n, call('addOsImageHash', hash('a')), zeroHash, salt('in its place'), DELAY);
  expect(told(await start('fresh')).sort()).toEqual([
    expect.stringMatching(/^warning chain-reorganised: /),
    'warning new-proposal: allow OS image 0x1',
    'warning new-proposal: allow OS image 0xa',
  ]);
  expect(await start('fresh')).toEqual([]);
}, 120_000);

test('what was pending at the first start and never happened is taken back', async () => {
  const snapshot = await request('evm_snapshot');
  await sent('schedule', kms, 0n, call('addOsImageHash', hash('b')), zeroHash, salt('lost'), DELAY);
  const before = await start('lost');
  expect(told(before)).toContain('warning new-proposal: allow OS image 0xb');
  await request('evm_revert', snapshot);
  await request('anvil_mine', '0x50', '0x1');
  const after = [...(await start('lost')), ...(await start('lost'))];
  expect(after.map(({ rule }) => rule)).toEqual(['chain-reorganised', 'event-withdrawn']);
}, 120_000);
