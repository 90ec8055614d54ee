import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Hex, keccak256 } from 'viem';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createContext } from '../context.ts';
import { splitGlobalOptions } from '../global-options.ts';
import { parseAppConfig } from '../project/app-schema.ts';
import { Sandbox } from '../testing.ts';
import { createProjectApp } from './create-app.ts';

const ADDRESS = 'ab'.repeat(20);
const TEXT = '{\n  "app_id": "before" // mine\n}\n';

let box: Sandbox;
let server: Server;
let sent: string[];
/** What the endpoint answers to the transaction. */
let onSend: () => unknown;
let raw: string[];
/** What it answers to whoever asks for the receipt. */
let onReceipt: () => unknown;
/** Whether it has the transaction. */
let knows: boolean;

const ANSWERS: Readonly<Record<string, unknown>> = {
  eth_chainId: '0x7a69',
  eth_call: `0x${'0'.repeat(24)}${ADDRESS}`,
  eth_getTransactionCount: '0x0',
  eth_blockNumber: '0x1',
  eth_gasPrice: '0x1',
  eth_getBalance: '0xde0b6b3a7640000',
  eth_maxPriorityFeePerGas: '0x1',
  eth_estimateGas: '0x5208',
  eth_getBlockByNumber: { baseFeePerGas: '0x1', number: '0x1', timestamp: '0x1', transactions: [] },
};

beforeEach(async () => {
  box = new Sandbox();
  writeFileSync(box.path('app.json'), TEXT);
  writeFileSync(box.path('key'), `0x${'11'.repeat(32)}`, { mode: 0o600 });
  sent = [];
  raw = [];
  knows = false;
  onReceipt = () => ({ result: null });
  server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.once('end', () => {
      const { id, method, params } = JSON.parse(Buffer.concat(chunks).toString()) as {
        id: number;
        method: string;
        params: string[];
      };
      const send = method === 'eth_sendRawTransaction';
      // What a process that is killed here leaves behind.
      if (send) sent.push(readFileSync(box.path('app.json'), 'utf8'));
      if (send) raw.push(params[0] as string);
      const known = raw[0] !== undefined &&
        knows && {
          eth_getTransactionReceipt: onReceipt(),
          eth_getTransactionByHash: { result: { hash: keccak256(raw[0] as Hex), nonce: '0x0', type: '0x2' } },
        };
      const told = known === false ? undefined : (known as Record<string, unknown>)[method];
      const answer = send ? onSend() : (told ?? { result: ANSWERS[method] ?? null });
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ jsonrpc: '2.0', id, ...(answer as object) }));
    });
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
  box.remove();
});

async function create(): Promise<string> {
  const host = box.host();
  const context = createContext(host, splitGlobalOptions([], host.env).options);
  const project = {
    directory: box.directory,
    path: box.path('app.json'),
    config: parseAppConfig({}, '').config,
  };
  const chain = {
    rpc_url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    kms_contract: `0x${'cd'.repeat(20)}`,
    private_key_file: box.path('key'),
    create_apps: false,
  };
  return await createProjectApp(context, project, chain, undefined);
}

vi.setConfig({ testTimeout: 120_000 });

describe('a new app contract', () => {
  it('has its address in app.json before the transaction is sent, and not after it was refused', async () => {
    onSend = () => ({ error: { code: -32000, message: 'insufficient funds' } });
    await expect(create()).rejects.toMatchObject({ code: 'chain_unreachable' });
    expect(sent[0]).toBe(TEXT.replace('before', ADDRESS));
    expect(readFileSync(box.path('app.json'), 'utf8')).toBe(TEXT);
  });

  it('is not made a second time when the command ends between sending and the receipt', async () => {
    knows = true;
    onSend = () => ({ result: keccak256(raw.at(-1) as Hex) });
    onReceipt = () => ({ error: { code: -32603, message: 'gone' } });
    await expect(create()).rejects.toThrow('was sent, but is not confirmed');
    // It may still come to pass.
    expect(readFileSync(box.path('app.json'), 'utf8')).toBe(TEXT.replace('before', ADDRESS));
    const receipt = {
      ...{
        transactionHash: keccak256(raw[0] as Hex),
        status: '0x0',
        blockNumber: '0x1',
        logs: [],
        type: '0x2',
      },
      ...{ transactionIndex: '0x0', gasUsed: '0x1', cumulativeGasUsed: '0x1', effectiveGasPrice: '0x1' },
    };
    onReceipt = () => ({ result: raw.length > 1 ? receipt : null });
    await expect(create()).rejects.toMatchObject({ code: 'chain_unreachable' });
    expect(raw).toEqual([raw[0], raw[0]]);
    expect(JSON.parse(readFileSync(box.path('gov-sent.json'), 'utf8')).sent).toEqual([]);
  });

  it('is not made when app.json cannot be edited', async () => {
    writeFileSync(box.path('app.json'), '{"app_id": "1", "app_id": "2"}');
    await expect(create()).rejects.toMatchObject({ code: 'bad_app_json' });
    expect(sent).toEqual([]);
  });
});
