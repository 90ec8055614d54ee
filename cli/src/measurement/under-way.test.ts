/** What is under way is seen wherever it waits, and is not started twice. */
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import {
  type Anvil,
  buildContracts,
  type ChainClient,
  connectChain,
  deployApp,
  deployCode,
  deployKms,
  dstackAppAbi,
  dstackKmsAbi,
  loadArtifact,
  startAnvil,
  transact,
} from '@dstack-cloud/contracts';
import { type Address, type Hex, zeroAddress } from 'viem';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { LocalSafeService } from '../gov/local-safe-service.ts';
import { Sandbox } from '../testing.ts';

vi.setConfig({ testTimeout: 180_000 });

const DELAY = 3_600;
const [DEPLOYER, A, B, STRANGER] = [0, 1, 2, 3] as const;
const box = new Sandbox();
const service = new LocalSafeService();
let anvil: Anvil;
let client: ChainClient;
const account = (index: number): Address => anvil.accounts[index]!.address;

beforeAll(async () => {
  await buildContracts();
  await service.start();
  anvil = await startAnvil();
  client = await connectChain({ rpcUrl: anvil.rpcUrl, privateKey: anvil.accounts[DEPLOYER]!.privateKey });
  box.now = new Date();
  const pcrs = { PCR0: '1'.repeat(96), PCR1: '2'.repeat(96), PCR2: '3'.repeat(96) };
  writeFileSync(box.path('enclave.json'), JSON.stringify({ Measurements: pcrs }));
}, 240_000);
afterAll(async () => {
  await anvil?.stop();
  await service.stop();
  box.remove();
});

type UnderWay = {
  operation: Hex | null;
  proposal: { hash: Hex; nonce: number; signatures: number; threshold: number; delay_seconds: number } | null;
};
type Call = UnderWay & { announcement: UnderWay; earliest: number; needs_announcement: boolean };
type Answer = Record<string, unknown> & {
  started: Record<string, unknown>[];
  groups: { calls: Call[] }[];
  earliest: number;
};

async function ok(index: number | undefined, ...argv: string[]): Promise<Answer> {
  box.env = {
    ...{ RPC_URL: anvil.rpcUrl, SAFE_SERVICE_URL: service.url },
    ...(index === undefined ? {} : { PRIVATE_KEY: anvil.accounts[index]!.privateKey }),
  };
  const { code, stdout, stderr } = await box.run(...argv, '--network', 'test', '--yes', '--json');
  expect(code, `${argv.join(' ')}\n${stdout}\n${stderr}`).toBe(0);
  return JSON.parse(stdout);
}
const now = async (): Promise<number> => Number((await client.public.getBlock()).timestamp);

test('a proposal at the transaction service is pending: with its signatures, and until it is scheduled', async () => {
  const { kms } = await deployKms({ client });
  const { appId } = await deployApp({ client, kms });
  const signers = [A, B].flatMap((one) => ['--signer', account(one)]);
  await ok(
    DEPLOYER,
    ...['gov', 'deploy', '--model', 'C', ...signers, '--threshold', '2', '--delay', String(DELAY)],
    ...['--kms', kms, '--app', appId],
  );
  const register = ['measurement', 'register', 'enclave.json', '--app-id', appId, '--any-device'];
  const [started] = (await ok(A, ...register)).started;
  const { hash, operation, file } = started as { hash: Hex; operation: Hex; file: string };
  const again = await ok(B, ...register);
  expect(again.started).toEqual([]);
  const [{ calls } = { calls: [] }] = again.groups;
  const proposal = { hash, nonce: 0, signatures: 1, threshold: 2, delay_seconds: DELAY, file };
  expect(calls.map((call) => call.proposal)).toEqual(Array(3).fill(proposal));
  expect(again.earliest).toBeGreaterThanOrEqual((await now()) + DELAY);
  await ok(B, 'gov', 'approve', hash);
  const { groups } = await ok(undefined, 'measurement', 'plan', ...register.slice(2));
  expect(groups[0]?.calls[0]?.proposal?.signatures).toBe(2);
  const status = await ok(undefined, 'gov', 'status');
  expect(status['proposals']).toMatchObject([{ hash, signatures: 2, threshold: 2 }]);
  await ok(STRANGER, 'gov', 'submit', hash);
  const scheduled = await ok(B, ...register);
  expect(scheduled.started).toEqual([]);
  expect(scheduled.groups[0]?.calls).toMatchObject(Array(3).fill({ operation, proposal: null }));
  expect(file).toContain('proposal-0-');
});

test('what no signer has signed is pending for nobody, and a rival is named', async () => {
  // A service can make up transactions, and show signatures of somebody else.
  const [stored] = service.stored;
  const proposal = await ok(A, 'gov', 'propose', 'kms:add', `0x${'7'.repeat(64)}`);
  service.lie = (one) => (one === stored ? one : { ...one, confirmations: [] });
  // Whoever has no file of it.
  const elsewhere = ['gov', 'status', '-C', mkdtempSync(box.path('elsewhere-'))];
  elsewhere.push('--governance', box.path('governance.json'));
  expect((await ok(undefined, ...elsewhere))['proposals']).toEqual([]);
  service.lie = (one) => one;
  await ok(B, 'gov', 'reject', String(proposal['file']), '-o', 'rejection.json');
  box.env = { RPC_URL: anvil.rpcUrl, SAFE_SERVICE_URL: service.url };
  const { stdout } = await box.run('gov', 'status', '--network', 'test');
  expect(stdout).toContain('Proposals: 2');
  expect(stdout.match(/another proposal has the same nonce/g)).toHaveLength(2);
});

test('a transaction service that fails hides nothing of the chain', async () => {
  box.env = { RPC_URL: anvil.rpcUrl, SAFE_SERVICE_URL: 'http://127.0.0.1:1/api' };
  const { code, stdout, stderr } = await box.run('gov', 'status', '--network', 'test', '--json');
  expect(code, stderr).toBe(0);
  expect(stderr).toContain(
    'Proposals at the transaction service are not shown: The transaction service cannot be used',
  );
  // Nor of the files.
  const file = expect.stringMatching(/\.json$/);
  expect(JSON.parse(stdout)).toMatchObject({
    ...{ proposals: [{ file }, { file }], proposals_problem: expect.any(String) },
  });
});

test('without a service, a proposal in a file is pending: it is not made twice, and another one that takes its nonce says so', async () => {
  const { kms } = await deployKms({ client });
  const { appId } = await deployApp({ client, kms });
  const alone = new Sandbox();
  onTestFinished(() => alone.remove());
  const run = async (index: number, ...argv: string[]): Promise<Answer & { stderr: string }> => {
    alone.env = { RPC_URL: anvil.rpcUrl, PRIVATE_KEY: anvil.accounts[index]!.privateKey };
    const { code, stdout, stderr } = await alone.run(...argv, '--network', 'test', '--yes', '--json');
    expect(code, `${argv.join(' ')}\n${stdout}\n${stderr}`).toBe(0);
    return { ...(JSON.parse(stdout) as Answer), stderr };
  };
  const signers = [A, B].flatMap((one) => ['--signer', account(one)]);
  const deployed = await run(
    DEPLOYER,
    ...['gov', 'deploy', '--model', 'C', ...signers, '--threshold', '2', '--delay', String(DELAY)],
    ...['--kms', kms, '--app', appId],
  );
  const registering = (name: string, digit: string): string[] => {
    const pcrs = { PCR0: digit.repeat(96), PCR1: '2'.repeat(96), PCR2: '3'.repeat(96) };
    writeFileSync(alone.path(name), JSON.stringify({ Measurements: pcrs }));
    return ['measurement', 'register', alone.path(name), '--app-id', appId, '--any-device'];
  };
  const one = registering('one.json', '4');
  const [first] = (await run(A, ...one)).started;
  const again = await run(B, ...one);
  expect(again.started).toEqual([]);
  expect(again.groups[0]?.calls[0]?.proposal).toMatchObject({ hash: first?.['hash'], file: first?.['file'] });
  const two = registering('two.json', '5');
  const rival = await run(A, ...two, '-o', 'rival.json');
  expect(rival.started[0]).toMatchObject({ nonce: 0 });
  expect(rival.stderr).toContain(`${String(first?.['file'])} has nonce 0 too: only one of the two`);
  rmSync(alone.path('rival.json'));
  const second = await run(A, ...two, '-o', 'second.json', '--nonce', '1');
  expect(second.started[0]).toMatchObject({ nonce: 1 });
  expect(second.stderr).not.toContain('too: only one');
  const { proposals } = await run(B, 'gov', 'status');
  expect(proposals).toMatchObject([
    { nonce: 0, signatures: 1 },
    { nonce: 1, signatures: 1 },
  ]);
  // One that was given up waits no longer.
  rmSync(String(first?.['file']));
  expect((await run(A, ...registering('three.json', '6'))).started[0]).toMatchObject({ nonce: 0 });
  // One command that makes two, of one Safe: the registry has a Timelock, another app has not.
  const other = await deployApp({ client, kms });
  await transact(client, other.appId, dstackAppAbi, 'transferOwnership', [deployed['safe']]);
  const both = registering('both.json', '7').map((word) => (word === appId ? other.appId : word));
  const made = (
    await run(
      A,
      ...both,
      '-C',
      mkdtempSync(alone.path('both-')),
      '--governance',
      alone.path('governance.json'),
    )
  ).started;
  expect(made.map(({ nonce }) => nonce)).toEqual([0, 1]);
  // What lies beside them is passed over.
  for (const [name, text] of Object.entries({ 'proposal-0.json': '{', 'list.json': '[]', 'b.json': 'null' }))
    writeFileSync(alone.path(name), text);
  symlinkSync('/dev/zero', alone.path('proposal-9.json'));
  expect((await run(B, 'gov', 'status'))['proposals']).toHaveLength(2);
});

test('an announcement that a plain Timelock has is pending, and is not scheduled twice', async () => {
  const { kms } = await deployKms({ client });
  const { appId } = await deployApp({ client, kms });
  const { abi, bytecode } = loadArtifact('DstackTimelock');
  // Contracts know a DstackTimelock by the hash of its code: with another hash of its sources it is any Timelock.
  const at = bytecode.lastIndexOf('a264697066735822') + 24;
  const other = `${bytecode.slice(0, at)}${bytecode[at] === '0' ? '1' : '0'}${bytecode.slice(at + 1)}` as Hex;
  const args = [DELAY, [account(A)], [zeroAddress], zeroAddress, 0];
  const { address: timelock } = await deployCode(client, abi, other, args);
  await transact(client, kms, dstackKmsAbi, 'setPolicyDelay', [BigInt(DELAY)]);
  await transact(client, kms, dstackKmsAbi, 'transferOwnership', [timelock]);
  await transact(client, appId, dstackKmsAbi, 'transferOwnership', [timelock]);
  const domain = ['--kms', kms, '--governance', 'none.json'];
  writeFileSync(
    box.path('none.json'),
    JSON.stringify({
      ...{ version: 1, model: 'B', chainId: anvil.chainId, complete: true, fromBlock: 0, kms },
      ...{ apps: [], guardians: [], made: {} },
    }),
  );
  const register = ['measurement', 'register', 'enclave.json', '--app-id', appId, '--any-device', ...domain];
  const first = await ok(A, ...register, '--announce');
  expect(first.started).toMatchObject([{ sent: true }]);
  const again = await ok(A, ...register, '--announce');
  expect(again.started).toEqual([]);
  const waiting = again.groups[0]!.calls.find((call) => call.needs_announcement)!;
  expect(waiting.announcement.operation).toBe(first.started[0]!['operation']);
  // The Timelock's delay, and then that of the contract.
  expect(waiting.earliest).toBeGreaterThanOrEqual((await now()) + 2 * DELAY - 60);
  box.env = { RPC_URL: anvil.rpcUrl };
  const { stdout } = await box.run(...register.with(1, 'plan'), '--network', 'test');
  expect(stdout).toContain(
    `its announcement is scheduled already as operation ${waiting.announcement.operation}`,
  );
});
