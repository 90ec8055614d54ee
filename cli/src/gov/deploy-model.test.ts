import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Anvil, buildContracts, startAnvil } from '@dstack-cloud/contracts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Sandbox } from '../testing.ts';

let anvil: Anvil;
let box: Sandbox;
let relay: Server;
/** Transactions that still get through; after the last one, the endpoint is gone. */
let left = 0;

beforeAll(async () => {
  await buildContracts();
  anvil = await startAnvil();
  box = new Sandbox();
  relay = createServer((request, response) => {
    void (async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const body = Buffer.concat(chunks);
      const isTransaction = body.includes('eth_sendRawTransaction');
      if (left <= 0) return request.socket.destroy();
      const headers = { 'content-type': 'application/json' };
      const answer = await fetch(anvil.rpcUrl, { method: 'POST', headers, body });
      if (isTransaction) left -= 1;
      // The answer to the last one is lost too.
      if (left <= 0) return request.socket.destroy();
      response.end(await answer.text());
    })();
  });
  await new Promise<void>((done) => relay.listen(0, '127.0.0.1', done));
}, 240_000);
afterAll(async () => {
  relay?.closeAllConnections();
  await new Promise((done) => relay?.close(done));
  await anvil?.stop();
  box?.remove();
});

test('a deployment that is cut off after any transaction is continued, and makes nothing twice', async () => {
  const account = (index: number): string => anvil.accounts[index]!.address;
  box.env = {
    RPC_URL: `http://127.0.0.1:${(relay.address() as AddressInfo).port}`,
    PRIVATE_KEY: anvil.accounts[0]!.privateKey,
  };
  const words = [
    'gov',
    'deploy',
    '--model',
    'C',
    '--signer',
    account(1),
    '--signer',
    account(2),
    '--threshold',
    '2',
  ];
  const deploy = async (transactions: number) => {
    left = transactions;
    return await box.run(...words, '--delay', '3600', '--guardian', account(5), '--network', 'test', '--yes');
  };
  const file = () => JSON.parse(readFileSync(box.path('governance.json'), 'utf8'));
  let made: Record<string, string> = {};
  let attempts = 0;
  for (let code = 1; code !== 0; attempts += 1) {
    expect(attempts).toBeLessThan(25);
    ({ code } = await deploy(1));
    // A run in which nothing is left to send succeeds.
    const now = file();
    expect(now.made).toMatchObject(made);
    made = now.made;
  }
  expect(attempts).toBeGreaterThan(8);
  expect(file()).toMatchObject({ complete: true, threshold: 2, minDelay: 3_600 });
  const other = await box.run(...words, '--delay', '7200', '--network', 'test', '--yes');
  expect(other.code).not.toBe(0);
}, 300_000);
