/** Packed reads on a real node, among contracts that do their worst. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type Anvil, startAnvil } from '@dstack-cloud/contracts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Block, blockCall, blockFromAnswer } from '../rpc/block.ts';
import { RpcEndpoint } from '../rpc/rpc-endpoint.ts';
import { type ContractRead, decodeMulticall, MULTICALL_CODE, readAnswer } from './multicall-code.ts';
import { multicallsOf, readMulticall } from './read-multicall.ts';

/** Runtime code by what it does. */
const CODE = {
  word: '0x600760005260206000f3',
  long: '0x600160005260606000f3',
  nothing: '0x00',
  reverts: '0x60206000fd',
  burns: '0x5b600056',
  floods: '0x624000006000f3',
  'returns too much': '0x6110016000f3',
  'returns all it may': '0x6110006000f3',
  destructs: '0x33ff',
} as const;
type Kind = keyof typeof CODE;
const KINDS = Object.keys(CODE) as Kind[];

const addressOf = (index: number): string => `0x${(0xc0de_0000 + index).toString(16).padStart(40, '0')}`;
const readOf = (index: number, gas = 50_000): ContractRead => ({
  target: addressOf(index),
  gas,
  data: '0xa921d322',
});

let anvil: Anvil;
let endpoint: RpcEndpoint;
let block: Block;
const kindOf = (index: number): Kind => KINDS[index % KINDS.length]!;

beforeAll(async () => {
  anvil = await startAnvil();
  endpoint = new RpcEndpoint(anvil.rpcUrl, 10_000);
  const calls = Array.from({ length: 1_000 }, (_, index) => ({
    method: 'anvil_setCode',
    params: [addressOf(index), CODE[kindOf(index)]],
  }));
  const mine = { method: 'evm_mine', params: [] };
  await endpoint.batch([mine, mine]);
  await endpoint.gather(calls);
  await endpoint.batch([mine]);
  const [answer] = await endpoint.batch([blockCall('latest')]);
  block = blockFromAnswer(answer);
}, 60_000);
afterAll(async () => {
  endpoint?.close();
  await anvil?.stop();
});

/** What each kind must be read as. */
const digest = (bytes: string): string | null => readAnswer(`0x${bytes}`);
const WANTED: Record<Kind, string | null> = {
  word: `word:${'7'.padStart(64, '0')}`,
  long: digest(`${'1'.padStart(64, '0')}${'0'.repeat(128)}`),
  nothing: null,
  reverts: null,
  burns: null,
  floods: null,
  'returns too much': null,
  'returns all it may': digest('00'.repeat(4096)),
  destructs: null,
};

test('the code is what the source compiles to', () => {
  const require = createRequire(import.meta.url);
  const solc = require('solc') as { compile(input: string): string };
  const content = readFileSync(new URL('multicall.yul', import.meta.url), 'utf8');
  const settings = {
    evmVersion: 'paris',
    optimizer: { enabled: true, runs: 1, details: { yul: true } },
    outputSelection: { '*': { '*': ['evm.bytecode.object'] } },
  };
  const output = JSON.parse(
    solc.compile(JSON.stringify({ language: 'Yul', sources: { 'multicall.yul': { content } }, settings })),
  ) as { contracts: Record<string, Record<string, { evm: { bytecode: { object: string } } }>> };
  expect(output.contracts['multicall.yul']?.['Multicall']?.evm.bytecode.object).toBe(MULTICALL_CODE);
});

describe('readMulticall', () => {
  test('a thousand contracts, most of them hostile: one exchange, and each is read as if it were alone', async () => {
    const before = endpoint.sent;
    const reads = Array.from({ length: 1_000 }, (_, index) => readOf(index));
    const results = await readMulticall([endpoint], 1, block, [{ to: addressOf(0), data: '0x' }], reads);
    expect(endpoint.sent.exchanges - before.exchanges).toBe(1);
    expect(endpoint.sent.calls - before.calls).toBeLessThan(10);
    expect(results.reads).toEqual(reads.map((_, index) => WANTED[kindOf(index)]));
    expect(results.plain).toEqual([`0x${'7'.padStart(64, '0')}`]);
  });

  test('contracts that use up all their gas leave enough for the rest of their multicall', async () => {
    const burner = KINDS.indexOf('burns');
    const reads = [...Array.from({ length: 500 }, () => readOf(burner)), readOf(KINDS.indexOf('word'))];
    const { reads: answers } = await readMulticall([endpoint], 1, block, [], reads);
    expect(answers).toEqual([...Array.from({ length: 500 }, () => null), WANTED.word]);
  });

  test('an address without a contract answers nothing', async () => {
    expect((await readMulticall([endpoint], 1, block, [], [readOf(5_000)])).reads).toEqual([null]);
  });

  test('another block, another answer', async () => {
    const parent = await endpoint.batch([blockCall(block.number - 2n)]);
    const { reads } = await readMulticall([endpoint], 1, blockFromAnswer(parent[0]), [], [readOf(0)]);
    expect(reads).toEqual([null]);
  });

  test('an endpoint that refuses multicalls is asked call by call, and answers the same', async () => {
    const refusing = new RpcEndpoint(anvil.rpcUrl, 10_000);
    const gather = refusing.gather.bind(refusing);
    refusing.gather = async (calls) =>
      (await gather(calls)).map((answer, index) =>
        (calls[index]!.params[0] as { to?: string }).to === undefined
          ? { error: { code: -32_602, message: 'missing value for required field: to' } }
          : answer,
      );
    const reads = KINDS.map((_, index) => readOf(index));
    const plain = [{ to: addressOf(0), data: '0x' }];
    const ask = async () => (await readMulticall([refusing], 1, block, plain, reads)).reads;
    expect(await ask()).toEqual(KINDS.map(() => null));
    expect(await ask()).toEqual(KINDS.map(() => null));
    expect(await ask()).toEqual(KINDS.map((kind) => WANTED[kind]));
    refusing.close();
  });

  test('an endpoint that does not know the block has refused nothing', async () => {
    const other = new RpcEndpoint(anvil.rpcUrl, 10_000);
    const plain = [{ to: addressOf(0), data: '0x' }];
    const unknown = { ...block, hash: `0x${'12'.repeat(32)}` };
    for (let round = 0; round < 3; round++) {
      await expect(readMulticall([other], 1, unknown, plain, [readOf(0)])).rejects.toThrow();
    }
    const before = other.sent;
    const reads = Array.from({ length: 100 }, (_, index) => readOf(index));
    await readMulticall([other], 1, block, plain, reads);
    expect(other.sent.calls - before.calls).toBe(2);
    other.close();
  });
});

test('multicalls hold whatever their reads use up', () => {
  const reads = Array.from({ length: 600 }, (_, index) => readOf(index, index % 3 === 0 ? 300_000 : 50_000));
  const multicalls = multicallsOf(reads);
  expect(multicalls.flat()).toEqual(reads);
  for (const multicall of multicalls)
    expect(multicall.reduce((sum, { gas }) => sum + gas, 0)).toBeLessThan(13_000_000);
});

test.each([
  '0x',
  '0x01',
  `0x00${'1'.repeat(65)}`,
  `0x00${'01'.repeat(33)}${'01'.repeat(33)}`,
  `0xef${'00'.repeat(33)}`,
])('no multicall returns %s', (returned) => expect(decodeMulticall(returned, 1)).toBeUndefined());

test('reads that a multicall did not come to count as failed', () => {
  expect(decodeMulticall(`0x0001${'22'.repeat(32)}`, 2)).toEqual([`word:${'22'.repeat(32)}`, null]);
});
