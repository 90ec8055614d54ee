/** Endpoints and services that lie, commands that are killed or run twice: nothing wrong is sent, and nothing twice. */
import { readFileSync, writeFileSync } from 'node:fs';
import { type Anvil, buildContracts, startAnvil } from '@dstack-cloud/contracts';
import { proposalHash, readProposal, writeProposal } from '@dstack-cloud/governance';
import { createPublicClient, type Hex, http, type PublicClient, parseTransaction } from 'viem';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Outcome, Sandbox } from '../testing.ts';
import { LocalSafeService } from './local-safe-service.ts';
import { LyingEndpoint } from './lying-endpoint.ts';

vi.setConfig({ testTimeout: 120_000 });

const DELAY = 3_600;
const [DEPLOYER, A, B, STRANGER] = [0, 1, 2, 3] as const;
const hash = (digit: string): Hex => `0x${digit.repeat(64)}`;
const box = new Sandbox();
const safeBox = new Sandbox();
const service = new LocalSafeService();
let anvil: Anvil;
let chain: PublicClient;
let liar: LyingEndpoint;
const account = (index: number): Hex => anvil.accounts[index]!.address;

type Answer = { readonly file: string; readonly operation: Hex; readonly [name: string]: unknown };

async function gov(
  where: Sandbox,
  env: NodeJS.ProcessEnv,
  index: number,
  ...argv: string[]
): Promise<Outcome> {
  where.env = { PRIVATE_KEY: anvil.accounts[index]!.privateKey, RPC_URL: anvil.rpcUrl, ...env };
  return await where.run('gov', ...argv, '--network', 'test', '--yes', '--json');
}
const viaLiar = (index: number, ...argv: string[]): Promise<Outcome> =>
  gov(box, { RPC_URL: liar.url }, index, ...argv);
async function ok(where: Sandbox, index: number, ...argv: string[]): Promise<Answer> {
  const env = where === safeBox ? { SAFE_SERVICE_URL: service.url } : {};
  const { code, stdout, stderr } = await gov(where, env, index, ...argv);
  expect(code, `${argv.join(' ')}\n${stdout}\n${stderr}`).toBe(0);
  return JSON.parse(stdout);
}
const sentBy = (index: number): Promise<number> => chain.getTransactionCount({ address: account(index) });
async function pass(seconds: number): Promise<void> {
  const request = chain.request as (one: object) => Promise<unknown>;
  await request({ method: 'evm_increaseTime', params: [seconds] });
  await request({ method: 'evm_mine', params: [] });
}

beforeAll(async () => {
  await buildContracts();
  anvil = await startAnvil();
  chain = createPublicClient({ transport: http(anvil.rpcUrl) });
  liar = await new LyingEndpoint(anvil.rpcUrl).start();
  await service.start();
  const timelock = ['--delay', String(DELAY), '--executor', 'anyone'];
  await ok(box, DEPLOYER, 'deploy', '--model', 'B', '--proposer', account(A), ...timelock);
  const signers = ['--signer', account(A), '--signer', account(B), '--threshold', '2'];
  await ok(safeBox, DEPLOYER, 'deploy', '--model', 'C', ...signers, ...timelock);
}, 240_000);
afterEach(() => {
  liar.lie = () => undefined;
});
afterAll(async () => {
  await liar?.stop();
  await service.stop();
  await anvil?.stop();
  box.remove();
  safeBox.remove();
});

describe('an endpoint lies', () => {
  test('it becomes another chain: nothing is signed', async () => {
    let times = 0;
    liar.lie = ({ method }) => {
      if (method === 'eth_chainId') times += 1;
      return method === 'eth_chainId' && times > 1 ? { result: '0x1' } : undefined;
    };
    const before = await sentBy(A);
    const { code, stderr } = await viaLiar(A, 'propose', 'kms:add-image', hash('1'));
    expect([code, stderr]).toEqual([1, expect.stringContaining('do not agree on the chain id')]);
    expect(await sentBy(A)).toBe(before);
  });

  test.each([
    ['gas', { eth_estimateGas: '0xffffffffff' }, 'gas, which is more than is plausible'],
    ['fees', { eth_maxPriorityFeePerGas: '0x8ac7230489e80000' }, 'it may cost'],
  ])('it names absurd %s: nothing is signed', async (_, lies: Record<string, string>, message) => {
    liar.lie = ({ method }) => (Object.hasOwn(lies, method) ? { result: lies[method] } : undefined);
    const before = await sentBy(A);
    const { code, stderr } = await viaLiar(A, 'propose', 'kms:add-image', hash('1'));
    expect([code, stderr]).toEqual([1, expect.stringContaining(message)]);
    expect(liar.asked.at(-1)).not.toBe('eth_sendRawTransaction');
    expect(await sentBy(A)).toBe(before);
  });

  test('it names a nonce that is too high: whoever waits for the transaction is told, then and when it is repeated', async () => {
    const before = await sentBy(A);
    let more = 5;
    liar.lie = ({ method }) => {
      if (method === 'eth_getTransactionCount')
        return { change: (count: Hex) => `0x${(Number(count) + more).toString(16)}` };
      return method === 'eth_sendRawTransaction' ? { result: hash('0') } : undefined;
    };
    const env = { RPC_URL: liar.url, SECOND_RPC_URL: anvil.rpcUrl };
    for (const lie of [5, 0]) {
      more = lie;
      const words = ['propose', 'kms:add-image', `0x${'9d'.repeat(32)}`, '--timeout', '3'];
      const { code, stderr } = await gov(box, env, A, ...words);
      expect(code).not.toBe(0);
      expect(stderr).toContain(`has nonce ${before + 5}, and an endpoint says that the next one of`);
    }
    expect(await sentBy(A)).toBe(before);
  });

  test('--max-cost is a bound of one’s own', async () => {
    const { code, stderr } = await gov(
      ...([box, {}, A, 'propose', 'kms:add-image', hash('6'), '--max-cost', '0.000001'] as const),
    );
    expect([code, stderr]).toEqual([1, expect.stringContaining('at most 0.000001')]);
  });

  test('a call that fails looks good at one endpoint: the other is believed, whichever it is', async () => {
    const zero = `0x${'0'.repeat(40)}`;
    liar.lie = ({ method, params }) =>
      method === 'eth_call' && JSON.stringify(params).includes('f2fde38b') ? { result: '0x' } : undefined;
    for (const env of [{ RPC_URL: liar.url, SECOND_RPC_URL: anvil.rpcUrl }, { SECOND_RPC_URL: liar.url }]) {
      const { code, stderr } = await gov(box, env, A, 'propose', 'kms:set-owner', zero, '--dry-run');
      expect([code, stderr]).toEqual([1, expect.stringContaining('cannot be an owner')]);
    }
    // Alone it is believed: that is what a second endpoint is for.
    const alone = await viaLiar(A, 'propose', 'kms:set-owner', zero, '--dry-run');
    expect(alone.code, alone.stderr).toBe(0);
  });

  test('one that stalls holds up nobody, as long as another one confirms', async () => {
    liar.lie = () => 'stall';
    const dead = 'http://127.0.0.1:1';
    const status = (env: NodeJS.ProcessEnv): Promise<Outcome> =>
      gov(box, env, A, 'status', '--rpc-timeout', '3');
    const second = await status({ SECOND_RPC_URL: `${liar.url}, ${anvil.rpcUrl}` });
    expect([second.code, second.stderr]).toEqual([
      0,
      expect.stringContaining('does not answer: it confirms nothing'),
    ]);
    const first = await status({ RPC_URL: dead, SECOND_RPC_URL: `${anvil.rpcUrl},${anvil.rpcUrl}` });
    expect([first.code, first.stderr]).toEqual([0, expect.stringContaining('the next endpoint is asked')]);
    // Nobody is left to confirm.
    expect((await status({ RPC_URL: dead, SECOND_RPC_URL: anvil.rpcUrl })).code).toBe(1);
    expect((await status({ SECOND_RPC_URL: liar.url })).code).toBe(1);
  });

  test('a receipt of another transaction, of a replaced block, or that another endpoint has not, is no success', async () => {
    const propose = (digit: string, env: NodeJS.ProcessEnv): Promise<Outcome> =>
      gov(box, env, A, 'propose', 'kms:add-device', hash(digit));
    const lieAbout = (change: (receipt: Record<string, unknown>) => unknown): void => {
      liar.lie = ({ method }) =>
        method === 'eth_getTransactionReceipt'
          ? { change: (receipt: never) => (receipt === null ? null : change(receipt)) }
          : undefined;
    };
    lieAbout((receipt) => ({ ...receipt, transactionHash: hash('9') }));
    expect((await propose('1', { RPC_URL: liar.url })).stderr).toContain('took the place of');
    lieAbout((receipt) => ({ ...receipt, blockHash: hash('9') }));
    expect((await propose('2', { RPC_URL: liar.url })).stderr).toContain('which the chain has replaced');
    lieAbout((receipt) => ({ ...receipt, status: '0x0' }));
    expect((await propose('3', { SECOND_RPC_URL: liar.url })).stderr).toContain(
      'do not agree on transaction',
    );
  });
});

describe('a command ends between sending and the receipt', () => {
  const operations = async (): Promise<{ id: Hex; calls: string[] }[]> =>
    (await ok(box, STRANGER, 'status'))['operations'] as { id: Hex; calls: string[] }[];

  test.each([
    ['the receipt never comes', 'eth_getTransactionReceipt', 'stall', 'a'],
    ['the answer to sending is lost', 'eth_sendRawTransaction', 'pass-and-drop', 'b'],
    ['it was not sent at all', 'eth_sendRawTransaction', 'drop', 'c'],
  ] as const)('%s: repeated, it is sent once', async (_, cut, how, digit) => {
    const words = ['propose', 'kms:add-image', hash(digit)];
    const interrupt = new AbortController();
    box.signal = interrupt.signal;
    // What reads the chain beforehand does not ask for receipts or transactions.
    liar.lie = ({ method }) => {
      if (method === cut && how === 'stall') interrupt.abort(new Error('Interrupted'));
      return method === cut || (how !== 'stall' && method === 'eth_getTransactionByHash') ? how : undefined;
    };
    const before = await sentBy(A);
    const first = await viaLiar(A, ...words);
    box.signal = new AbortController().signal;
    expect(first.code, first.stderr).not.toBe(0);
    const kept = JSON.parse(readFileSync(box.path('gov-sent.json'), 'utf8')).sent.at(-1) as { hash: Hex };
    const again = await ok(box, A, ...words);
    expect(again).toMatchObject({ sent: true, transaction: kept.hash });
    expect(await sentBy(A)).toBe(before + 1);
    const made = (await operations()).filter(({ calls }) => calls[0]?.includes(hash(digit)));
    expect(made.map(({ id }) => id)).toEqual([again.operation]);
    // And now that it is seen, the same wish is another one.
    const third = await gov(box, {}, A, ...words);
    expect([third.code, third.stderr]).toEqual([1, expect.stringContaining('The same is scheduled already')]);
    await ok(box, A, ...words, '--again');
    expect(await sentBy(A)).toBe(before + 2);
  });

  test.each([
    ['and sends it all the same', true, 'f0'],
    ['and is right', false, 'f1'],
  ] as const)(
    'the endpoint refuses the transaction, %s: repeated, one is made',
    async (_, passes, digits) => {
      const words = ['propose', 'kms:add-image', hash(digits[0]!).slice(0, -1) + digits[1]];
      const before = await sentBy(A);
      liar.lie = ({ method }) => {
        if (method === 'eth_sendRawTransaction') return { refusal: 'insufficient funds for gas', passes };
        return method === 'eth_getTransactionByHash' ? { result: null } : undefined;
      };
      expect((await viaLiar(A, ...words)).stderr).toContain('The chain refuses');
      expect(await sentBy(A)).toBe(before + (passes ? 1 : 0));
      liar.lie = () => undefined;
      const again = await gov(box, {}, A, ...words);
      // What the refused one scheduled is seen, or awaited.
      if (again.code !== 0) expect(again.stderr).toContain('The same is scheduled already');
      expect(await sentBy(A)).toBe(before + 1);
      const made = (await operations()).filter(({ calls }) => calls[0]?.includes(words[2]!));
      expect(made).toHaveLength(1);
    },
  );

  test('the endpoint refuses it, sends it later and hides it: the next one has its nonce, so one of them counts', async () => {
    const words = ['propose', 'kms:add-image', `${hash('f').slice(0, -1)}2`];
    const before = await sentBy(A);
    const raw: Hex[] = [];
    const quantity: Hex = `0x${before.toString(16)}`;
    liar.lie = ({ method, params }) => {
      if (method === 'eth_getTransactionCount') return { result: quantity };
      if (/^eth_getTransaction/.test(method)) return { result: null };
      if (method !== 'eth_sendRawTransaction') return undefined;
      raw.push(params?.[0] as Hex);
      return { refusal: 'transaction underpriced', passes: false };
    };
    for (const _ of [1, 2]) expect((await viaLiar(A, ...words)).code).not.toBe(0);
    liar.lie = () => undefined;
    expect(raw.map((one) => parseTransaction(one).nonce)).toEqual([before, before]);
    // The first of the two, after all.
    await chain.request({ method: 'eth_sendRawTransaction', params: [raw[0]!] });
    await pass(1);
    const { code, stderr } = await gov(box, {}, A, ...words);
    if (code !== 0) expect(stderr).toContain('The same is scheduled already');
    expect(await sentBy(A)).toBe(before + 1);
    expect((await operations()).filter(({ calls }) => calls[0]?.includes(words[2]!))).toHaveLength(1);
  });

  test('the time limit says so, with an exit code of its own, in JSON too', async () => {
    liar.lie = ({ method }) => (method === 'eth_getLogs' ? 'stall' : undefined);
    const { code, stdout, stderr } = await viaLiar(A, 'status', '--timeout', '2');
    expect([code, stderr]).toEqual([124, expect.stringContaining('longer than 2 seconds')]);
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'timed_out' } });
    expect((await viaLiar(A, 'status', '--timeout', '0')).stderr).toContain('--timeout is 1 to');
  });

  test('a damaged record of what was sent stops the next sending, before anything is sent', async () => {
    const path = box.path('gov-sent.json');
    const text = readFileSync(path, 'utf8');
    writeFileSync(path, text.replace('"version": 1', '"version": 2'));
    const before = await sentBy(A);
    const { code, stderr } = await gov(box, {}, A, 'propose', 'kms:add-image', hash('e'));
    expect([code, stderr]).toEqual([1, expect.stringContaining('gov-sent.json is damaged')]);
    expect(await sentBy(A)).toBe(before);
    writeFileSync(path, text);
  });
});

test('two executions at once: one counts, the other is told, and one account sends once', async () => {
  const first = await ok(box, A, 'propose', 'kms:add', hash('d'));
  const second = await ok(box, A, 'propose', 'kms:add', hash('e'));
  await pass(DELAY);
  const before = await sentBy(A);
  const same = await Promise.all([1, 2].map(() => gov(box, {}, A, 'execute', first.operation)));
  expect(await sentBy(A)).toBe(before + 1);
  expect(same.map(({ code }) => code)).toContain(0);
  const other = new Sandbox();
  writeFileSync(other.path('governance.json'), readFileSync(box.path('governance.json')));
  const both = await Promise.all([
    gov(box, {}, A, 'execute', second.operation),
    gov(other, {}, B, 'execute', second.operation),
  ]);
  other.remove();
  expect(both.filter(({ code }) => code === 0)).toHaveLength(1);
  const loser = both.find(({ code }) => code !== 0);
  expect(loser?.stderr).toMatch(/reverted on chain|is executed already|operation is not ready|fails/);
});

describe('a transaction service lies', () => {
  test('what no signer signed neither takes a nonce nor waits for anybody', async () => {
    const proposal = await ok(safeBox, A, 'propose', 'kms:add-image', hash('1'));
    expect(proposal['nonce']).toBe(0);
    const [stored] = service.stored;
    const far = { ...stored, nonce: '7', confirmations: [] };
    const { to, value, data, operation, safeTxGas, baseGas, gasPrice, gasToken, refundReceiver } =
      stored as never;
    const tx = { to, data, operation, gasToken, refundReceiver, value: BigInt(value), nonce: 7n } as never;
    const amounts = { safeTxGas: BigInt(safeTxGas), baseGas: BigInt(baseGas), gasPrice: BigInt(gasPrice) };
    const farHash = proposalHash({
      ...{
        chainId: anvil.chainId,
        safe: stored!['safe'] as Hex,
        tx: { ...(tx as object), ...amounts } as never,
      },
      signatures: [],
    });
    service.list = () => ({ results: [stored, { ...far, safeTxHash: farHash }] });
    expect((await ok(safeBox, A, 'propose', 'kms:add-image', hash('2')))['nonce']).toBe(1);
    service.list = undefined;
  });

  test('with another hash, or with pages without end: refused, in bounded time', async () => {
    const propose = (): Promise<Outcome> =>
      gov(safeBox, { SAFE_SERVICE_URL: service.url }, A, 'propose', 'kms:add-image', hash('3'));
    const [stored] = service.stored;
    service.list = () => ({ results: [{ ...stored, safeTxHash: hash('9') }] });
    expect((await propose()).stderr).toContain('shows a transaction whose hash is another');
    service.list = () => ({ results: Array(50).fill({ ...stored, confirmations: [] }) });
    const before = service.asked;
    const endless = await propose();
    expect(endless.stderr).toContain('has more than 200 pending transactions');
    expect(endless.stderr).toContain('--nonce NUMBER');
    expect(service.asked - before).toBeLessThan(10);
    service.list = undefined;
  });
});

test('a proposal that was edited, with the hash made right again, is what it is: no signature holds for it', async () => {
  const { file } = await ok(
    safeBox,
    A,
    'propose',
    'kms:add-image',
    hash('4'),
    '--nonce',
    '0',
    '-o',
    'edited.json',
  );
  const proposal = readProposal(readFileSync(file, 'utf8'), file);
  const data = proposal.tx.data.replaceAll('4'.repeat(64), '5'.repeat(64)) as Hex;
  writeFileSync(
    file,
    writeProposal({ ...proposal, tx: { ...proposal.tx, data } }, [`allow OS image ${hash('4')}`]),
  );
  for (const verb of ['approve', 'submit']) {
    const { code, stdout, stderr } = await gov(safeBox, {}, B, verb, file);
    expect([code, stderr], stdout).toEqual([1, expect.stringContaining('by nobody who signs')]);
  }
  const { stderr } = await gov(safeBox, {}, B, 'execute', file);
  expect(stderr).toContain('No Timelock of this domain has operation');
  // People read what the bytes do, whatever the file says of itself.
  safeBox.env = { RPC_URL: anvil.rpcUrl, PRIVATE_KEY: anvil.accounts[B]!.privateKey };
  const shown = await safeBox.run('gov', 'approve', file, '--network', 'test', '--dry-run');
  expect(shown.stdout).toContain(`allow OS image ${hash('5')}`);
});
