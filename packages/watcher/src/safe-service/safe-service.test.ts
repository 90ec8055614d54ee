/** A real Safe that owns a KMS contract, and the service where its signers leave proposals: honest, lying, gone. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Anvil, type ChainClient, deployKms, dstackKmsAbi, transact } from '@dstack-cloud/contracts';
import { packSignatures, type SafeTx, safeAbi, safeTx, safeTxHash } from '@dstack-cloud/governance';
import { type Abi, type Address, encodeFunctionData, type Hex, toEventSelector } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { checkTable, type WatchConfig } from '../config/schema.ts';
import { GovernanceModel } from '../model/governance-model.ts';
import { observe } from '../observe.ts';
import type { Message } from '../sinks/deliver.ts';
import { deploySafe, type RealChain, startChain } from '../test/real-chain.ts';
import { type WatcherNote, watchGovernance } from '../watch.ts';
import { SafeService } from './safe-service.ts';

const CHAIN_ID = 31_337;
const IMAGE: Hex = `0x${'1'.repeat(64)}`;

let chain: RealChain;
let anvil: Anvil;
let client: ChainClient;
let kms: Address;
let safe: Address;
let folder: string;
let server: Server;
/** What the service answers; undefined for no answer. */
let results: object[] | undefined;
const asked: string[] = [];
const notes: WatcherNote[] = [];

const signer = (index: number) => privateKeyToAccount(anvil.accounts[index]!.privateKey);
const owners = (): Address[] => [0, 1, 2].map((index) => signer(index).address);

beforeAll(async () => {
  chain = await startChain();
  anvil = chain.anvil;
  client = await chain.client(3);
  safe = await deploySafe(client, owners(), 2);
  kms = (await deployKms({ client })).kms;
  await transact(client, kms, dstackKmsAbi as Abi, 'transferOwnership', [safe]);
  folder = mkdtempSync(join(tmpdir(), 'watch-safe-'));
  server = createServer((request, response) => {
    asked.push(request.url ?? '');
    if (results === undefined) return void response.destroy();
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ count: results.length, next: 'http://elsewhere.example/', results }));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
}, 300_000);
afterAll(async () => {
  server?.closeAllConnections();
  server?.close();
  await anvil?.stop();
  if (folder) rmSync(folder, { recursive: true, force: true });
});
beforeEach(() => {
  asked.length = 0;
  notes.length = 0;
});

const serviceUrl = (): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}/api`;

function config(): WatchConfig {
  const checked = checkTable({
    rpc_urls: [anvil.rpcUrl],
    kms_contract: kms,
    state_path: join(folder, 'state'),
    alerts: { stale_seconds: 86_400, participation: 0 },
    safe_service: { url: serviceUrl() },
  });
  if ('issues' in checked) throw new Error(JSON.stringify(checked.issues));
  return checked.config;
}

async function once(): Promise<Message[]> {
  const messages: Message[] = [];
  await watchGovernance({
    config: config(),
    once: true,
    signal: new AbortController().signal,
    onMessage: (message) => void messages.push(message),
    onNote: (note) => void notes.push(note),
  });
  return messages;
}
const rules = (messages: readonly Message[]): string[] =>
  messages.map(({ rule, severity }) => `${severity} ${rule}`);

const kmsCall = (functionName: string, ...args: unknown[]) => ({
  ...{ to: kms, value: 0n },
  data: encodeFunctionData({ abi: dstackKmsAbi as Abi, functionName, args }),
});
const safeCall = (functionName: string, ...args: unknown[]) => ({
  ...{ to: safe, value: 0n },
  data: encodeFunctionData({ abi: safeAbi as Abi, functionName, args }),
});

type Shown = {
  readonly safeTxHash: Hex;
  readonly confirmations: readonly { readonly owner: Address; readonly signature: Hex }[];
};

/** As the service shows a transaction, confirmed by these signers. */
async function shown(tx: SafeTx, ...by: number[]): Promise<Shown> {
  const hash = safeTxHash(CHAIN_ID, safe, tx);
  const texts = Object.fromEntries(
    Object.entries(tx).map(([name, value]) => [name, typeof value === 'bigint' ? value.toString() : value]),
  );
  const confirmations = await Promise.all(
    by.map(async (index) => ({
      owner: signer(index).address,
      signature: await signer(index).sign({ hash }),
    })),
  );
  const own = { safe, isExecuted: false };
  return { ...texts, ...own, safeTxHash: hash, confirmations };
}

/** Signed by the first two and sent by somebody else. */
async function execute(call: { to: Address; value: bigint; data: Hex }): Promise<void> {
  const nonce = await client.public.readContract({ address: safe, abi: safeAbi, functionName: 'nonce' });
  const tx = safeTx(call, nonce);
  const hash = safeTxHash(CHAIN_ID, safe, tx);
  const signatures = await Promise.all([0, 1].map((index) => signer(index).sign({ hash })));
  const packed = await packSignatures({ address: safe, owners: owners(), threshold: 2 }, hash, signatures);
  const { to, value, data, operation, safeTxGas, baseGas, gasPrice, gasToken, refundReceiver } = tx;
  const args = [to, value, data, operation, safeTxGas, baseGas, gasPrice, gasToken, refundReceiver, packed];
  await transact(client, safe, safeAbi as Abi, 'execTransaction', args);
}

test('money that the Safe gets is neither recorded nor told', async () => {
  results = [];
  await once();
  const { account } = client;
  for (const value of [1n, 2n]) {
    const hash = await client.wallet.sendTransaction({ to: safe, value, account, chain: null });
    const { logs } = await client.public.waitForTransactionReceipt({ hash });
    expect(logs.map(({ topics }) => topics[0])).toEqual([toEventSelector('SafeReceived(address,uint256)')]);
  }
  const before = readFileSync(join(folder, 'state', 'journal.jsonl'), 'utf8');
  expect(await once()).toEqual([]);
  expect(readFileSync(join(folder, 'state', 'journal.jsonl'), 'utf8')).toBe(before);
});

test('what signers propose is told in words before it is executed, with who signed', async () => {
  results = [];
  expect(rules(await once())).toEqual([]);
  const add = safeTx(kmsCall('addOsImageHash', IMAGE), 0n);
  const upgrade = safeTx(kmsCall('setGuardian', signer(4).address, true), 0n);
  results = [await shown(add, 0), await shown(upgrade, 1)];
  const told = await once();
  expect(rules(told).sort()).toEqual([
    'critical suspicious-proposal',
    'info proposal-signed',
    'info proposal-signed',
    'warning new-proposal',
    'warning new-proposal',
    'warning nonce-conflict',
  ]);
  expect(told[0]!.text).toContain(`with nonce 0 and 1 of 2 signatures: `);
  expect(told[0]!.text).toContain(IMAGE);
  expect(told.find(({ rule }) => rule === 'proposal-signed')!.actor).toBe(owners()[0]!.toLowerCase());
  expect(asked.at(-1)).toContain('executed=false&nonce__gte=0');
  // Each thing once; a second signature is a new thing.
  expect(rules(await once())).toEqual([]);
  results = [await shown(add, 0, 2)];
  expect((await once()).map(({ rule, actor }) => [rule, actor])).toEqual([
    ['proposal-signed', owners()[2]!.toLowerCase()],
  ]);
}, 240_000);

test('a service that lies is told at once, and believed in nothing', async () => {
  const remove = safeTx(kmsCall('removeOsImageHash', IMAGE), 0n);
  const honest = await shown(remove, 0);
  const [confirmation] = honest.confirmations;
  const forged = { ...honest, confirmations: [{ ...confirmation!, owner: owners()[1]! }] };
  results = [forged];
  expect(rules(await once())).toEqual(['critical safe-service-lies']);
  expect(notes.find(({ type }) => type === 'safe-service-failed')).toMatchObject({
    code: 'service-inconsistent',
  });
  // Somebody who signs for nothing here proposes; nobody is called for that.
  results = [await shown(remove, 5)];
  expect(rules(await once())).toEqual([]);
}, 240_000);

test('a service that is gone, or answers too much, keeps nobody from following the chain', async () => {
  results = undefined;
  await execute(kmsCall('addOsImageHash', IMAGE));
  expect(rules(await once())).toContain('info measurement-registered');
  expect(notes.find(({ type }) => type === 'safe-service-failed')).toMatchObject({
    code: 'service-unreachable',
  });

  const tx = await shown(safeTx(kmsCall('pause'), 9n), 0);
  results = Array.from({ length: 3 }, () => ({
    ...tx,
    confirmations: Array.from({ length: 99 }, () => tx.confirmations[0]),
  }));
  let time = 1_000;
  const service = new SafeService({
    ...{ url: serviceUrl(), pollSeconds: 30, now: () => time },
    nonces: async (safes) => safes.map(() => 0n),
    noted: () => undefined,
  });
  const model = new GovernanceModel();
  for (const owner of owners()) model.safe(safe.toLowerCase()).owners.add(owner.toLowerCase());
  await service.poll(CHAIN_ID, model);
  expect(service.problem).toMatchObject({ code: 'too-much', since: 1_000 });
  // Not asked again before it is time; then what it says counts, and who signed took part.
  results = [tx];
  await service.poll(CHAIN_ID, model);
  expect(service.problem).toBeDefined();
  time += 31;
  await service.poll(CHAIN_ID, model);
  expect(service.problem).toBeUndefined();
  expect(service.waiting).toHaveLength(1);
  service.mark(model);
  expect(model.safe(safe.toLowerCase()).lastSeen.get(owners()[0]!.toLowerCase())).toBe(1_031);
}, 240_000);

test('an observer shows what waits, with who signed and who approved on the chain; what nobody agreed to is left out', async () => {
  const nonce = await client.public.readContract({ address: safe, abi: safeAbi, functionName: 'nonce' });
  const [both, onChain, nobody] = [1n, 2n, 3n].map((more) => safeTx(kmsCall('pause'), nonce + more)) as [
    SafeTx,
    SafeTx,
    SafeTx,
  ];
  const approver = await chain.client(1);
  for (const tx of [both, onChain])
    await transact(approver, safe, safeAbi as Abi, 'approveHash', [safeTxHash(CHAIN_ID, safe, tx)]);
  results = [await shown(both, 0), await shown(onChain), await shown(nobody)];
  const observer = observe({
    ...config(),
    poll_seconds: 0.2,
    safe_service: { ...config().safe_service, poll_seconds: 1 },
  });
  const [first, second] = owners().map((owner) => owner.toLowerCase());
  try {
    await expect
      .poll(() => observer.waiting.map(({ signers, approvedBy }) => ({ signers, approvedBy })), {
        timeout: 60_000,
      })
      .toEqual([
        { signers: [first], approvedBy: [second] },
        { signers: [], approvedBy: [second] },
      ]);
    expect(observer.service).toEqual({ host: new URL(serviceUrl()).host, problem: undefined });
    // A service that is gone is said, and what it said before stays.
    results = undefined;
    await expect.poll(() => observer.service?.problem, { timeout: 60_000 }).toMatch(/does not answer/);
    expect(observer.waiting).toHaveLength(2);
  } finally {
    await observer.stop();
  }
}, 240_000);

test('what a real Safe does to itself is told by its own events', async () => {
  results = [];
  await execute(safeCall('addOwnerWithThreshold', signer(5).address, 1n));
  await execute(safeCall('enableModule', signer(6).address));
  const told = await once();
  expect(rules(told)).toEqual(
    expect.arrayContaining(['critical signers-changed', 'critical safe-module', 'info safe-executed']),
  );
  expect(told.map(({ text }) => text)).toEqual(
    expect.arrayContaining([
      `${signer(5).address.toLowerCase()} is a signer of the Safe now`,
      'The Safe needs 1 signatures now, and needed 2',
      `${signer(6).address.toLowerCase()} acts for the Safe without signatures now`,
    ]),
  );
}, 240_000);
