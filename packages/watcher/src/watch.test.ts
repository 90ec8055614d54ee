/** The watcher on a real chain: a domain whose owner is a Timelock, from the first block to the webhook. */
import { createHmac } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Anvil,
  type ChainClient,
  deployApp,
  deployKms,
  dstackAppAbi,
  dstackKmsAbi,
  transact,
} from '@dstack-cloud/contracts';
import { timelockAbi } from '@dstack-cloud/governance';
import { type Abi, type Address, encodeFunctionData, type Hex, keccak256, zeroHash } from 'viem';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkTable, type WatchConfig } from './config/schema.ts';
import { observe } from './observe.ts';
import type { Message } from './sinks/deliver.ts';
import { deployTimelock, startChain } from './test/real-chain.ts';
import { watchGovernance } from './watch.ts';

const hash = (digit: string): Hex => `0x${digit.repeat(64)}`;
const SECRET = 'a secret of the webhook';
const DELAY = 3_600n;

let anvil: Anvil;
let owner: ChainClient;
let guardian: ChainClient;
let kms: Address;
let app: Address;
let timelock: Address;
let folder: string;
let hook: Server;
let refuse = 0;
/** How far the chain's time is ahead of ours. */
let ahead = 0;
const now = (): number => Date.now() / 1_000 + ahead;
const posted: { body: string; signature: string }[] = [];

beforeAll(async () => {
  const chain = await startChain();
  anvil = chain.anvil;
  [owner, guardian] = [await chain.client(0), await chain.client(1)];
  kms = (await deployKms({ client: owner })).kms;
  app = (await deployApp({ client: owner, kms, composeHash: hash('c') })).appId;
  timelock = await deployTimelock(owner, DELAY, owner.account.address);
  const write = (name: string, ...args: unknown[]) => transact(owner, kms, dstackKmsAbi as Abi, name, args);
  await write('addOsImageHash', hash('1'));
  await write('setGuardian', guardian.account.address, true);
  await write('transferOwnership', timelock);
  folder = mkdtempSync(join(tmpdir(), 'watch-'));
  writeFileSync(join(folder, 'secret'), `${SECRET}\n`, { mode: 0o600 });
  hook = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      if (refuse > 0) {
        refuse -= 1;
        return void response.writeHead(503).end();
      }
      posted.push({ body, signature: String(request.headers['dstack-signature']) });
      response.end('ok');
    });
  });
  await new Promise<void>((done) => hook.listen(0, '127.0.0.1', done));
}, 180_000);
afterAll(async () => {
  hook?.close();
  await anvil?.stop();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

function config(): WatchConfig {
  const { port } = hook.address() as AddressInfo;
  const checked = checkTable({
    rpc_urls: [anvil.rpcUrl],
    chain_id: 31_337,
    kms_contract: kms,
    apps: [app],
    state_path: join(folder, 'state'),
    poll_seconds: 0.1,
    in_use: [hash('c')],
    alerts: { stale_seconds: 86_400 },
    webhook: { url: `http://127.0.0.1:${port}`, secret_file: join(folder, 'secret') },
    metrics: { port: 0 },
  });
  if ('issues' in checked) throw new Error(JSON.stringify(checked.issues));
  return checked.config;
}

/** One pass. @returns rule, severity and text of each message */
async function once(): Promise<Message[]> {
  const messages: Message[] = [];
  const signal = new AbortController().signal;
  const onMessage = (message: Message): void => void messages.push(message);
  await watchGovernance({ config: config(), once: true, signal, onMessage, now });
  return messages;
}
const rules = (messages: readonly Message[]): string[] =>
  messages.map(({ rule, severity }) => `${severity} ${rule}`);
const schedule = (data: Hex, salt: Hex) =>
  transact(owner, timelock, timelockAbi as Abi, 'schedule', [kms, 0n, data, zeroHash, salt, DELAY]);
const request = (method: string, ...params: unknown[]): Promise<unknown> =>
  (owner.public.request as (call: object) => Promise<unknown>)({ method, params });
const call = (functionName: string, ...args: unknown[]): Hex =>
  encodeFunctionData({ abi: dstackKmsAbi as Abi, functionName, args });

test('an announced call is pending until the owner makes it', async () => {
  const own = (await deployKms({ client: owner })).kms;
  const write = (name: string, ...args: unknown[]) => transact(owner, own, dstackKmsAbi as Abi, name, args);
  await write('setPolicyDelay', 2n);
  await write('announce', call('addOsImageHash', hash('7')));
  await write('announce', call('addOsImageHash', hash('8')));
  await write('announce', call('addOsImageHash', hash('9')));
  await write('retract', keccak256(call('addOsImageHash', hash('9'))));
  const observer = observe({ ...config(), kms_contract: own, apps: [] });
  try {
    const pending = (): (string | undefined)[] =>
      observer.announced.map(({ call: data }) => data.slice(-1)).sort();
    await expect.poll(pending, { timeout: 60_000 }).toEqual(['7', '8']);
    expect(observer.announced[0]).toMatchObject({ contract: own.toLowerCase(), delay: 2 });
    await request('evm_increaseTime', 3);
    await request('evm_mine');
    ahead += 3;
    await write('addOsImageHash', hash('7'));
    await expect.poll(pending, { timeout: 60_000 }).toEqual(['8']);
  } finally {
    await observer.stop();
  }
}, 240_000);

test('a proposal is told before it takes effect, and a change that got round the Timelock is told at once', async () => {
  expect(rules(await once())).toEqual([]);
  await schedule(call('addOsImageHash', hash('2')), hash('a'));
  await schedule(call('setGuardian', owner.account.address, true), hash('b'));
  const proposals = await once();
  expect(rules(proposals)).toEqual([
    'warning new-proposal',
    'warning new-proposal',
    'critical suspicious-proposal',
  ]);
  expect(proposals[0]!.text).toContain(`allow OS image ${hash('2')}, on DstackKms`);
  expect(proposals[0]!.actor).toBe(owner.account.address.toLowerCase());
  await request('evm_increaseTime', Number(DELAY) + 1);
  await request('evm_mine');
  ahead += Number(DELAY) + 1;
  await transact(owner, timelock, timelockAbi as Abi, 'execute', [
    ...[kms, 0n, call('addOsImageHash', hash('2')), zeroHash, hash('a')],
  ]);
  expect(rules(await once())).toEqual(['info measurement-registered', 'info proposal-executed']);

  // An attacker with the storage of the chain in his hands, or a flaw of a contract: the owner acts without the Timelock.
  await request('anvil_impersonateAccount', timelock);
  await request('anvil_setBalance', timelock, '0xde0b6b3a7640000');
  const from = { from: timelock, to: kms, gas: '0x100000' };
  const bypass = (await request('eth_sendTransaction', {
    ...from,
    data: call('addOsImageHash', hash('3')),
  })) as Hex;
  await owner.public.waitForTransactionReceipt({ hash: bypass });
  expect(rules(await once())).toEqual(['info measurement-registered', 'critical unscheduled-change']);

  await transact(guardian, kms, dstackKmsAbi as Abi, 'removeOsImageHash', [hash('1')]);
  const [revoked, ...more] = await once();
  expect(more).toEqual([]);
  expect(revoked).toMatchObject({ rule: 'suspicious-revocation', severity: 'critical' });
  expect(revoked!.text).toContain('guardian');
  expect(revoked!.actor).toBe(guardian.account.address.toLowerCase());
}, 120_000);

test('changes of an app of ours are alerts, those of others information; each policy change has one', async () => {
  const other = (await deployApp({ client: guardian, kms })).appId;
  await transact(guardian, other, dstackAppAbi as Abi, 'setAllowAnyDevice', [true]);
  await transact(owner, app, dstackAppAbi as Abi, 'setAllowAnyDevice', [true]);
  await transact(owner, app, dstackAppAbi as Abi, 'removeComposeHash', [hash('c')]);
  await transact(owner, app, dstackAppAbi as Abi, 'transferOwnership', [guardian.account.address]);
  await transact(guardian, kms, dstackKmsAbi as Abi, 'pause', []);
  await transact(guardian, kms, dstackKmsAbi as Abi, 'blockApp', [other]);
  const messages = await once();
  expect(rules(messages).sort()).toEqual(
    [
      'info app-registered',
      'info any-device',
      'critical any-device',
      'critical suspicious-revocation',
      'critical owner-changed',
      'critical pause',
      'warning app-blocked',
    ].sort(),
  );
  expect(messages.find(({ rule }) => rule === 'suspicious-revocation')!.text).toMatch(/it is in use/);
  expect(await once()).toEqual([]);
}, 120_000);

test('what the webhook did not take comes again, signed, also after a restart; who has the secret can check it', async () => {
  const before = posted.length;
  refuse = 1;
  await transact(guardian, kms, dstackKmsAbi as Abi, 'denyAdvisory', ['INTEL-SA-<b>\u202e</b>']);
  const [message] = await once();
  expect(message).toMatchObject({ rule: 'advisory' });
  expect(posted.length).toBe(before);
  expect(await once()).toEqual([]);
  expect(posted.slice(before).map(({ body }) => (JSON.parse(body) as Message).id)).toEqual([message!.id]);
  for (const { body, signature } of posted) {
    const [, time, sum] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(signature)!;
    expect(sum).toBe(createHmac('sha256', SECRET).update(`${time}.${body}`).digest('hex'));
    expect(Math.abs(Number(time) - now())).toBeLessThan(Number(DELAY) + 300);
  }
  // Everything was posted once, and what is as grave in order.
  const messages = posted.map(({ body }) => JSON.parse(body) as Message);
  expect(new Set(messages.map(({ sequence }) => sequence)).size).toBe(messages.length);
  for (const severity of ['info', 'warning', 'critical']) {
    const sequences = messages.filter((one) => one.severity === severity).map(({ sequence }) => sequence);
    expect(sequences).toEqual(sequences.toSorted((a, b) => a - b));
  }
}, 120_000);

test('a transaction that a reorganisation of the chain moves is told once, one that it loses is taken back', async () => {
  const { address } = guardian.account;
  const signed = async (nonce: number, name: string, ...args: unknown[]): Promise<Hex> =>
    guardian.account.signTransaction({
      ...{ type: 'legacy', chainId: 31_337, nonce, gas: 500_000n, gasPrice: 10n ** 11n, to: kms },
      data: call(name, ...args),
    });
  const nonce = Number(await request('eth_getTransactionCount', address, 'latest'));
  const [kept, lost] = [
    await signed(nonce, 'denyAdvisory', 'INTEL-SA-00001'),
    await signed(nonce + 1, 'denyAdvisory', 'INTEL-SA-00002'),
  ];
  // The node answers before the block is made.
  const sent = async (transaction: Hex): Promise<void> => {
    const hash = (await request('eth_sendRawTransaction', transaction)) as Hex;
    await owner.public.waitForTransactionReceipt({ hash });
  };
  const snapshot = await request('evm_snapshot');
  await sent(kept);
  await sent(lost);
  expect(rules(await once())).toEqual(['warning advisory', 'warning advisory']);
  await request('evm_revert', snapshot);
  // Another block first, so that the transaction comes back in a block of another number.
  await request('anvil_mine', '0x2', '0x1');
  await sent(kept);
  const [reorganised, ...more] = await once();
  expect(reorganised).toMatchObject({ rule: 'chain-reorganised', severity: 'warning' });
  expect(more).toEqual([]);
  await request('anvil_mine', '0x50', '0x1');
  const [withdrawn, ...rest] = await once();
  expect(withdrawn).toMatchObject({ rule: 'event-withdrawn', severity: 'critical' });
  expect(withdrawn!.text).toMatch(/AdvisoryDenied|PolicyChanged/);
  // Of the two events of the transaction, each is taken back.
  expect(rules(rest)).toEqual(['critical event-withdrawn']);
}, 120_000);

test('a running watcher serves metrics to this machine by its own names, and stops', async () => {
  const stop = new AbortController();
  let url: string | undefined;
  const running = watchGovernance({
    config: config(),
    signal: stop.signal,
    now,
    onMessage: () => undefined,
    onNote: (note) => {
      if (note.type === 'started') url = note.metrics;
    },
  });
  await expect.poll(() => url, { timeout: 30_000 }).toBeDefined();
  // A second one would tell everything twice.
  await expect(once()).rejects.toMatchObject({ code: 'locked' });
  await expect
    .poll(async () => (await fetch(`${url}/metrics`)).text(), { timeout: 30_000 })
    .toMatch(/dstack_governance_chain_readable 1/);
  const text = await (await fetch(`${url}/metrics`)).text();
  expect(text).toMatch(/dstack_governance_timelock_queue_depth 1\n/);
  expect(text).toMatch(/dstack_governance_timelock_ready_unexecuted 1\n/);
  expect(text).toMatch(/dstack_governance_paused 1\n/);
  expect(text).toMatch(/suspicious_total\{rule="unscheduled-change"\} 1/);
  expect(text).toMatch(/events_total\{contract="kms",event="OsImageHashAdded"\} \d+/);
  const rules = readFileSync(
    new URL('../../../docs/operations/prometheus-rules-governance.yaml', import.meta.url),
    'utf8',
  );
  for (const name of [
    ...['pending_proposals', 'oldest_pending_seconds', 'signer_participation_ratio', 'timelock_queue_depth'],
    ...['timelock_ready_unexecuted', 'suspicious_total', 'events_total', 'oldest_ready_seconds'],
  ])
    expect(text).toContain(`# TYPE dstack_governance_${name} `);
  expect(text).toContain('# TYPE dstack_onchain_sync_lag_seconds ');
  for (const condition of [
    ...['oldest_pending_seconds > 86400', 'oldest_ready_seconds > 86400', 'timelock_queue_depth > 3'],
    ...['signer_participation_ratio < 0.8', 'onchain_sync_lag_seconds > 60', 'chain_readable == 0'],
  ])
    expect(rules).toMatch(new RegExp(`expr: dstack_(governance_)?${condition}\\n`));
  const used = [...rules.matchAll(/dstack_(?:governance|onchain)_\w+/g)].map(([name]) => name);
  expect(used.length).toBeGreaterThan(7);
  expect(used.filter((name) => !text.includes(`# TYPE ${name} `))).toEqual([]);
  stop.abort();
  await running;
}, 120_000);
