import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { privateKeyToAccount } from 'viem/accounts';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { type Proposal, proposalHash } from './proposal-file.ts';
import { safeTx } from './safe-tx.ts';
import { type TransactionService, transactionService } from './transaction-service.ts';

const owner = privateKeyToAccount(`0x${'11'.repeat(32)}`);
const other = privateKeyToAccount(`0x${'22'.repeat(32)}`);
const safe = '0x0000000000000000000000000000000000000011';
const chainId = 31_337;
const tx = safeTx({ to: '0x00000000000000000000000000000000000000bb', value: 0n, data: '0x1234' }, 3n);
const proposal: Proposal = { chainId, safe, tx, signatures: [] };
const hash = proposalHash(proposal);

/** What the documentation says that a proposal is made of. */
const submission = z.strictObject({
  to: z.string(),
  value: z.string(),
  data: z.string(),
  operation: z.int(),
  safeTxGas: z.string(),
  baseGas: z.string(),
  gasPrice: z.string(),
  gasToken: z.string(),
  refundReceiver: z.string(),
  nonce: z.string(),
  contractTransactionHash: z.string(),
  sender: z.string(),
  signature: z.string().regex(/^0x[0-9a-f]{130}$/),
  origin: z.string(),
});

type Stored = Record<string, unknown> & { confirmations: { owner: string; signature: string | null }[] };

/** A service that stores what it gets, and shows it through `lie`. */
class FakeService {
  stored: Stored[] = [];
  lie: (one: Stored) => unknown = (one) => one;
  raw: string | undefined;
  seen: string[] = [];
  readonly #server: Server = createServer((request, response) => {
    void this.#answer(request).then(([status, body]) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(body);
    });
  });

  async start(): Promise<string> {
    await new Promise<void>((done) => this.#server.listen(0, '127.0.0.1', done));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/api`;
  }
  stop(): Promise<unknown> {
    this.#server.closeAllConnections();
    return new Promise((done) => this.#server.close(done));
  }

  async #answer(request: IncomingMessage): Promise<[number, string]> {
    const { method, url = '' } = request;
    this.seen.push(`${method} ${url} ${request.headers.authorization ?? ''}`.trim());
    if (this.raw !== undefined) return [200, this.raw];
    let body = '';
    for await (const chunk of request) body += String(chunk);
    if (method === 'POST' && url === `/api/v2/safes/${safe}/multisig-transactions/`) {
      const {
        contractTransactionHash,
        sender,
        signature,
        origin: _,
        ...rest
      } = submission.parse(JSON.parse(body));
      const confirmations = [{ owner: sender, signature }];
      this.stored.push({
        ...rest,
        safe,
        safeTxHash: contractTransactionHash,
        isExecuted: false,
        confirmations,
      });
      return [201, ''];
    }
    const confirmation = /^\/api\/v1\/multisig-transactions\/(0x[0-9a-f]{64})\/confirmations\/$/.exec(url);
    if (method === 'POST' && confirmation) {
      const { signature } = z.strictObject({ signature: z.string() }).parse(JSON.parse(body));
      const found = this.stored.find(({ safeTxHash }) => safeTxHash === confirmation[1]);
      found?.confirmations.push({ owner: other.address, signature });
      return found ? [201, '{}'] : [404, '{}'];
    }
    const one = /^\/api\/v2\/multisig-transactions\/(0x[0-9a-f]{64})\/$/.exec(url);
    if (one) {
      const found = this.stored.find(({ safeTxHash }) => safeTxHash === one[1]);
      return found ? [200, JSON.stringify(this.lie(found))] : [404, '{"detail":"Not found"}'];
    }
    return [
      200,
      JSON.stringify({
        count: this.stored.length,
        next: 'http://elsewhere/',
        results: this.stored.map(this.lie),
      }),
    ];
  }
}

describe('the Safe transaction service', () => {
  const fake = new FakeService();
  let url = '';
  let service: TransactionService;
  beforeAll(async () => {
    url = await fake.start();
    service = transactionService(url, { chainId, safe, apiKey: 'key-of-the-test' });
  });
  afterAll(() => fake.stop());
  beforeEach(async () => {
    Object.assign(fake, { stored: [], lie: (one: Stored) => one, raw: undefined, seen: [] });
    await service.submit(proposal, owner.address, await owner.sign({ hash }));
  });

  test('keeps a proposal and its confirmations', async () => {
    await service.confirm(hash, await other.sign({ hash }));
    const found = await service.find(hash);
    expect(found.tx).toEqual(tx);
    expect(found.signatures).toHaveLength(2);
    expect(await service.pending(safe, 3n)).toEqual([found]);
    expect(fake.seen.at(-1)).toBe(
      `GET /api/v2/safes/${safe}/multisig-transactions/?executed=false&nonce__gte=3&limit=50&offset=0 Bearer key-of-the-test`,
    );
  });

  test.each([
    ['other data under a known hash', (one: Stored) => ({ ...one, data: '0x1235' })],
    ['another receiver under a known hash', (one: Stored) => ({ ...one, to: owner.address })],
    ['a delegatecall under a known hash', (one: Stored) => ({ ...one, operation: 1 })],
    ['another nonce under a known hash', (one: Stored) => ({ ...one, nonce: 4 })],
    ['another Safe', (one: Stored) => ({ ...one, safe: owner.address })],
    [
      'another transaction with its own hash',
      (one: Stored) => ({
        ...one,
        data: '0x',
        safeTxHash: proposalHash({ ...proposal, tx: { ...tx, data: '0x' } }),
      }),
    ],
    [
      'a confirmation of somebody else in the name of an owner',
      (one: Stored) => ({
        ...one,
        confirmations: [{ owner: other.address, signature: one.confirmations[0]?.signature }],
      }),
    ],
  ])('that shows %s is found out', async (_, lie) => {
    fake.lie = lie;
    await expect(service.find(hash)).rejects.toMatchObject({ code: 'service-inconsistent' });
  });

  test('confirmations without a signature, such as approvals on chain, do not count', async () => {
    const claimed = `0x${owner.address.slice(2).padStart(64, '0')}${'0'.repeat(64)}01`;
    fake.lie = (one) => ({
      ...one,
      confirmations: [
        { owner: owner.address, signature: null },
        { owner: owner.address, signature: claimed },
      ],
    });
    expect((await service.find(hash)).signatures).toEqual([]);
  });

  test.each([
    ['no JSON', '<html>'],
    ['another shape', '{"results": 3}'],
    ['a transaction without its data', '{"safe": "0x00"}'],
    ['more than is read', `"${'x'.repeat(5 * 1024 * 1024)}"`],
  ])('that answers %s is not used', async (_, raw) => {
    fake.raw = raw;
    await expect(service.find(hash)).rejects.toMatchObject({ code: 'service-unreachable' });
  });

  test('that does not know a hash says so; one that is down is named', async () => {
    await expect(service.find(`0x${'00'.repeat(32)}`)).rejects.toMatchObject({ code: 'not-found' });
    const dead = transactionService('http://127.0.0.1:1/api', { chainId, safe });
    await expect(dead.find(hash)).rejects.toThrow('127.0.0.1:1 does not answer');
  });

  test('has to be reached by https, and without a password in its URL', () => {
    const make = (at: string) => () => transactionService(at, { chainId, safe });
    expect(make('http://example.com/api')).toThrow('by https');
    expect(make('https://user:secret@example.com/api')).toThrow(/^[^@]*holds a user name or a password$/);
    expect(make('nonsense')).toThrow('is no URL');
  });
});
