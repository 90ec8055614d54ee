/** Headers of real chains and of a local node are encoded again to their hashes. */
import { startAnvil } from '@dstack-cloud/contracts';
import { toHex } from '@dstack-cloud/encoding';
import { describe, expect, test } from 'vitest';
import type { Block } from '../rpc/block.ts';
import { verifiedHeader } from './block-header.ts';

type RpcBlock = Record<string, unknown> & { hash: string; number: string; timestamp: string };

const zero = (bytes: number): string => `0x${'00'.repeat(bytes)}`;
const EMPTY_ROOT = '0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421';

/** The first block of the main network, whose hash everybody knows. */
const genesis: RpcBlock = {
  parentHash: zero(32),
  sha3Uncles: '0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347',
  miner: zero(20),
  stateRoot: '0xd7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544',
  transactionsRoot: EMPTY_ROOT,
  receiptsRoot: EMPTY_ROOT,
  logsBloom: zero(256),
  difficulty: '0x400000000',
  number: '0x0',
  gasLimit: '0x1388',
  gasUsed: '0x0',
  timestamp: '0x0',
  extraData: '0x11bbe8db4e347b4e8c937c1c8370e4b5ed33adb3db69cbdb7a38e1e50b1b82fa',
  mixHash: zero(32),
  nonce: '0x0000000000000042',
  hash: '0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3',
};

const blockOf = ({ number, hash, timestamp, ...rest }: RpcBlock): Block => ({
  number: BigInt(number),
  hash,
  timestamp: Number(timestamp),
  parentHash: String(rest['parentHash']),
  stateRoot: String(rest['stateRoot']),
});
const refused = (answer: unknown, block: Block, why: string): void => {
  try {
    verifiedHeader(answer, block);
  } catch (error) {
    expect(error).toMatchObject({ name: 'PolicyError', code: 'chain-header' });
    expect((error as Error).message).toContain(why);
    return;
  }
  expect.unreachable(why);
};

describe('verifiedHeader', () => {
  test('takes the state root of the main network’s first block', () => {
    expect(toHex(verifiedHeader(genesis, blockOf(genesis)).stateRoot)).toBe(
      String(genesis['stateRoot']).slice(2),
    );
  });

  // Of older rules anvil shows members that its headers do not have.
  test.each(['shanghai', 'cancun', 'prague', 'osaka'])(
    'encodes a local node’s header again (%s)',
    async (hardfork) => {
      const anvil = await startAnvil({ hardfork });
      try {
        const blocks = await readBlocks(anvil.rpcUrl);
        for (const block of blocks) {
          expect(toHex(verifiedHeader(block, blockOf(block)).stateRoot)).toBe(
            String(block['stateRoot']).slice(2),
          );
        }
      } finally {
        await anvil.stop();
      }
    },
  );

  test('any member that differs is refused', () => {
    for (const [name, value] of Object.entries(genesis)) {
      const text = String(value);
      // The hash in the answer is not what counts.
      if (name === 'hash') continue;
      const other = `${text.slice(0, -1)}${text.endsWith('1') ? '2' : '1'}`;
      refused({ ...genesis, [name]: other }, blockOf(genesis), 'its hash is not the agreed one');
      refused({ ...genesis, [name]: undefined }, blockOf(genesis), `${name} is missing or malformed`);
    }
  });

  test.each<[string, unknown, string]>([
    ['no block', null, 'it is missing or malformed'],
    ['a short root', { ...genesis, stateRoot: '0x00' }, 'stateRoot is missing or malformed'],
    ['a quantity with zeros', { ...genesis, gasUsed: '0x00' }, 'gasUsed is missing or malformed'],
    ['endless extra data', { ...genesis, extraData: `0x${'00'.repeat(1025)}` }, 'extraData is missing'],
    ['a gap', { ...genesis, withdrawalsRoot: zero(32) }, 'withdrawalsRoot, but not all that comes before'],
    ['a fork to come', { ...genesis, baseFeePerGas: '0x1', slotNumber: '0x2' }, 'does not know: slotNumber'],
  ])('refuses %s', (_, answer, why) => refused(answer, blockOf(genesis), why));

  test('number and time must be those that were agreed upon', () => {
    refused(genesis, { ...blockOf(genesis), number: 1n }, 'number or time');
    refused(genesis, { ...blockOf(genesis), timestamp: 1 }, 'number or time');
  });
});

async function readBlocks(url: string): Promise<RpcBlock[]> {
  const call = async (method: string, params: unknown[]): Promise<RpcBlock> => {
    const answer = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
    });
    return ((await answer.json()) as { result: RpcBlock }).result;
  };
  await call('anvil_mine', ['0x3']);
  return await Promise.all(
    [0, 1, 2, 3].map((n) => call('eth_getBlockByNumber', [`0x${n.toString(16)}`, false])),
  );
}
