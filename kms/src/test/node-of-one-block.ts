import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

type Call = { readonly id: number; readonly method: string };

/** An Ethereum node with one fresh block and no contract. */
export async function startNodeOfOneBlock(): Promise<{ readonly url: string; close(): void }> {
  const results: Readonly<Record<string, unknown>> = {
    eth_chainId: '0x7a69',
    eth_blockNumber: '0x10',
    eth_getBlockByNumber: {
      number: '0x10',
      hash: `0x${'ab'.repeat(32)}`,
      parentHash: `0x${'aa'.repeat(32)}`,
      stateRoot: `0x${'cd'.repeat(32)}`,
      timestamp: `0x${Math.floor(Date.now() / 1000).toString(16)}`,
    },
  };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const asked = JSON.parse(Buffer.concat(chunks).toString()) as Call | Call[];
      const answers = [asked]
        .flat()
        .map(({ id, method }) => ({ jsonrpc: '2.0', id, result: results[method] ?? '0x' }));
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(Array.isArray(asked) ? answers : answers[0]));
    });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
