/** A service that fails, stalls or shows what cannot be read for one Safe: the other Safes are watched all the same. */
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type SafeTx, safeTx, safeTxHash } from '@dstack-cloud/governance';
import { type Address, type Hex, toHex } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { GovernanceModel } from '../model/governance-model.ts';
import { SafeService } from './safe-service.ts';

const CHAIN_ID = 31_337;
/** Asked in this order. */
const [FIRST, SECOND] = [`0x${'a1'.repeat(20)}`, `0x${'b2'.repeat(20)}`] as const;
const owner = privateKeyToAccount(`0x${'7'.repeat(64)}`);
type Confirmation = { readonly owner: Address; readonly signature: Hex };

let server: Server;
let time: number;
let service: SafeService;
let model: GovernanceModel;
let next: bigint;
/** Answers of the service, by Safe. */
let answers: Record<string, (response: ServerResponse) => void>;
beforeEach(async () => {
  [time, next] = [1_000, 0n];
  server = createServer((request, response) => {
    const safe = /\/safes\/(0x[0-9a-f]{40})\//i.exec(request.url ?? '')?.[1]?.toLowerCase();
    answers[safe ?? '']?.(response);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  model = new GovernanceModel();
  for (const safe of [FIRST, SECOND]) model.safe(safe).owners.add(owner.address.toLowerCase());
  service = serviceWith();
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

function serviceWith(options: { readonly deadlineMs?: number } = {}): SafeService {
  return new SafeService({
    ...{ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/api`, pollSeconds: 30 },
    ...{ now: () => time, nonces: async (safes) => safes.map(() => next), noted: () => undefined },
    ...options,
  });
}
function lists(
  safe: Address,
  tx: SafeTx,
  confirmations: readonly Confirmation[],
  count = 1,
): (response: ServerResponse) => void {
  const texts = Object.entries(tx).map(([name, value]) => [
    name,
    typeof value === 'bigint' ? value.toString() : value,
  ]);
  const hash = safeTxHash(CHAIN_ID, safe, tx);
  const one = { ...Object.fromEntries(texts), safe, safeTxHash: hash, confirmations };
  return (response) =>
    void response.end(JSON.stringify({ results: Array.from({ length: count }, () => one) }));
}
const call = safeTx({ to: owner.address, value: 0n, data: '0x' }, 0n);
async function signedFor(safe: Address): Promise<(response: ServerResponse) => void> {
  const signature = await owner.sign({ hash: safeTxHash(CHAIN_ID, safe, call) });
  return lists(safe, call, [{ owner: owner.address, signature }]);
}
const waiting = (): string[] => service.waiting.map(({ safe }) => safe);
async function pollLater(): Promise<void> {
  time += 31;
  await service.poll(CHAIN_ID, model);
}

const unreadable: Confirmation = { owner: owner.address, signature: `0x${'11'.repeat(64)}05` };
test.each<[string, string, (response: ServerResponse) => void]>([
  ['fails', 'service-unreachable', (response) => void response.writeHead(500).end()],
  [
    'has too many signatures',
    'too-much',
    lists(
      FIRST,
      call,
      Array.from({ length: 100 }, () => unreadable),
      3,
    ),
  ],
  ['has a signature of no known form', 'bad-signature', lists(FIRST, call, [unreadable])],
  ['answers with those of another Safe', 'service-inconsistent', lists(SECOND, call, [])],
])('a Safe for which the service %s hides no other Safe, and is reported', async (_name, code, answer) => {
  answers = { [FIRST]: answer, [SECOND]: await signedFor(SECOND) };
  await service.poll(CHAIN_ID, model);
  expect(waiting()).toEqual([SECOND]);
  expect(service.problem).toMatchObject({ code, since: 1_000 });
  answers[FIRST] = await signedFor(FIRST);
  await pollLater();
  expect(waiting()).toEqual([FIRST, SECOND]);
  expect(service.problem).toBeUndefined();
});

test('what was known of a Safe stays while the service fails for it, until its nonce has passed', async () => {
  answers = { [FIRST]: await signedFor(FIRST), [SECOND]: await signedFor(SECOND) };
  await service.poll(CHAIN_ID, model);
  answers[FIRST] = (response) => void response.destroy();
  await pollLater();
  expect(service.waiting).toMatchObject([
    { safe: FIRST, since: 1_000 },
    { safe: SECOND, since: 1_000 },
  ]);
  next = 1n;
  await pollLater();
  expect(waiting()).toEqual([]);
});

test('a lie about one Safe is reported before failures of others', async () => {
  answers = {
    [FIRST]: (response) => void response.writeHead(500).end(),
    [SECOND]: lists(FIRST, call, []),
  };
  await service.poll(CHAIN_ID, model);
  expect(service.problem).toMatchObject({ code: 'service-inconsistent' });
});

test('a service that trickles its answers holds the watcher up no longer than one deadline', async () => {
  service = serviceWith({ deadlineMs: 300 });
  const timers: NodeJS.Timeout[] = [];
  const trickle = (response: ServerResponse) => {
    timers.push(setInterval(() => response.write(' '), 50));
  };
  answers = { [FIRST]: trickle, [SECOND]: trickle };
  const from = performance.now();
  await service.poll(CHAIN_ID, model);
  // Without the deadline each Safe has fifteen seconds.
  expect(performance.now() - from).toBeLessThan(10_000);
  expect(service.problem).toMatchObject({ code: 'service-unreachable' });
  for (const timer of timers) clearInterval(timer);
});

test('the signature of a contract counts for nothing, and those of accounts beside it do', async () => {
  const contract: Confirmation = {
    owner: `0x${'c3'.repeat(20)}`,
    // EIP-1271 in a Safe: the contract, the offset of what it is asked about, v = 0, and that.
    signature: `0x${'c3'.repeat(20).padStart(64, '0')}${toHex(65n, { size: 32 }).slice(2)}00${'00'.repeat(31)}01ff`,
  };
  const signature = await owner.sign({ hash: safeTxHash(CHAIN_ID, FIRST, call) });
  model.safe(FIRST).owners.add(contract.owner);
  answers = {
    [FIRST]: lists(FIRST, call, [contract, { owner: owner.address, signature }]),
    [SECOND]: await signedFor(SECOND),
  };
  await service.poll(CHAIN_ID, model);
  expect(service.problem).toBeUndefined();
  expect(service.waiting).toMatchObject([
    { safe: FIRST, signers: [owner.address.toLowerCase()] },
    { safe: SECOND },
  ]);
});
