import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Hex, keccak256 } from 'viem';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { createContext } from '../context.ts';
import { splitGlobalOptions } from '../global-options.ts';
import { parseAppConfig } from '../project/app-schema.ts';
import { Sandbox } from '../testing.ts';
import { createProjectApp } from './create-app.ts';
import { sendingOptions } from './sending-options.ts';

const ADDRESS = 'ab'.repeat(20);
const TEXT = '{\n  "app_id": "before" // mine\n}\n';

const ANSWERED_BLOCK = `0x${'88'.repeat(32)}`;

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
  eth_getBlockByNumber: {
    hash: ANSWERED_BLOCK,
    baseFeePerGas: '0x1',
    number: '0x1',
    timestamp: '0x1',
    transactions: [],
  },
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

/** Another endpoint, which answers as the first one but for these methods; undefined for never. @returns its URL */
async function another(answers: Readonly<Record<string, object | undefined>>): Promise<string> {
  const other = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.once('end', () => {
      const { id, method } = JSON.parse(Buffer.concat(chunks).toString()) as { id: number; method: string };
      const answer = method in answers ? answers[method] : { result: ANSWERS[method] ?? null };
      if (answer === undefined) return;
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ jsonrpc: '2.0', id, ...answer }));
    });
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => other.once('listening', resolve));
  onTestFinished(() => {
    other.closeAllConnections();
    other.close();
  });
  return `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
}

async function create(flags: Readonly<Record<string, string>> = {}): Promise<string> {
  const host = box.host();
  const context = createContext(host, splitGlobalOptions([], host.env).options);
  const { maxCost, limited } = sendingOptions(context, flags);
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
  return await limited((within) => createProjectApp(within, project, chain, maxCost, undefined));
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

  it('costs no more than --max-cost', async () => {
    await expect(create({ maxCost: '0.00000000000000001' })).rejects.toThrow('more than is plausible');
    expect(raw).toEqual([]);
    expect(readFileSync(box.path('app.json'), 'utf8')).toBe(TEXT);
  });

  it('is not sent when the second endpoint refuses the call, or does not answer', async () => {
    box.env['SECOND_RPC_URL'] = await another({
      eth_call: { error: { code: 3, message: 'execution reverted: no factory', data: '0x' } },
    });
    await expect(create()).rejects.toMatchObject({ code: 'chain_unreachable' });
    box.env['SECOND_RPC_URL'] = 'http://127.0.0.1:9';
    await expect(create()).rejects.toMatchObject({ code: 'chain-unreachable' });
    expect(raw).toEqual([]);
    expect(readFileSync(box.path('app.json'), 'utf8')).toBe(TEXT);
  });

  it('counts only when the second endpoint has the transaction in the same block', async () => {
    const receipt = {
      ...{ status: '0x1', blockNumber: '0x1', logs: [], type: '0x2', transactionIndex: '0x0' },
      ...{ gasUsed: '0x1', cumulativeGasUsed: '0x1', effectiveGasPrice: '0x1' },
      ...{ transactionHash: `0x${'00'.repeat(32)}`, blockHash: `0x${'77'.repeat(32)}` },
    };
    box.env['SECOND_RPC_URL'] = await another({ eth_getTransactionReceipt: { result: receipt } });
    knows = true;
    onSend = () => ({ result: keccak256(raw.at(-1) as Hex) });
    onReceipt = () => ({
      result: { ...receipt, transactionHash: keccak256(raw[0] as Hex), blockHash: ANSWERED_BLOCK },
    });
    await expect(create()).rejects.toThrow('do not agree');
    // It was sent, so the address stays, and the command repeated sends no other.
    expect(readFileSync(box.path('app.json'), 'utf8')).toBe(TEXT.replace('before', ADDRESS));
    await expect(create()).rejects.toThrow('do not agree');
    expect(new Set(raw).size).toBe(1);
  });

  it('is given up after --timeout by an endpoint that stalls', async () => {
    box.env['SECOND_RPC_URL'] = await another({ eth_call: undefined });
    await expect(create({ timeout: '1' })).rejects.toMatchObject({ code: 'timed_out' });
    await expect(create({ timeout: 'x' })).rejects.toMatchObject({ code: 'bad_argument' });
    await expect(create({ timeout: '0' })).rejects.toMatchObject({ code: 'bad_argument' });
    expect(raw).toEqual([]);
  });

  it('is not made when app.json cannot be edited', async () => {
    writeFileSync(box.path('app.json'), '{"app_id": "1", "app_id": "2"}');
    await expect(create()).rejects.toMatchObject({ code: 'bad_app_json' });
    expect(sent).toEqual([]);
  });
});
