/** A project folder of platform local against contracts on a real chain: plan, registration, and what a dry run of deploy says. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import {
  type Anvil,
  buildContracts,
  type ChainClient,
  connectChain,
  deployApp,
  deployKms,
  dstackAppAbi,
  dstackKmsAbi,
  startAnvil,
} from '@dstack-cloud/contracts';
import { type Abi, type Address, encodeFunctionData, type Hex } from 'viem';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { type Outcome, Sandbox } from '../testing.ts';

vi.setConfig({ testTimeout: 120_000 });

const [DEPLOYER, OWNER, DEVELOPER, STRANGER] = [0, 1, 2, 3] as const;
const box = new Sandbox();
let anvil: Anvil;
let client: ChainClient;
let kms: Address;
let app: Address;

beforeAll(async () => {
  await buildContracts();
  anvil = await startAnvil();
  client = await connectChain({ rpcUrl: anvil.rpcUrl, privateKey: anvil.accounts[DEPLOYER]!.privateKey });
  ({ kms } = await deployKms({ client, owner: account(OWNER) }));
  ({ appId: app } = await deployApp({ client, kms, owner: account(DEVELOPER), allowAnyDevice: false }));
  box.now = new Date();
  configure({});
  const made = await box.run('new', 'shop', '--platform', 'local', '--config', box.path('config.json'));
  expect(made.code, made.stderr).toBe(0);
  change((config) => ({ ...config, app_id: app.slice(2).toLowerCase() }));
}, 240_000);
afterAll(async () => {
  await anvil?.stop();
  box.remove();
});

const account = (index: number): Address => anvil.accounts[index]!.address;

function configure(chain: object): void {
  const config = {
    platform: 'local',
    chain: { rpc_url: anvil.rpcUrl, kms_contract: kms, chain_id: anvil.chainId, ...chain },
    local: { run_path: box.path('vm'), seed_file: box.path('seed'), engine: 'process' },
  };
  writeFileSync(box.path('config.json'), JSON.stringify(config));
}
function change(how: (config: Record<string, unknown>) => object): void {
  const path = box.path('shop', 'app.json');
  writeFileSync(path, JSON.stringify(how(JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>)));
}

type Plan = {
  readonly app_id: string;
  readonly simulated: boolean;
  readonly missing: number;
  readonly entries: readonly { readonly what: string; readonly allowed: boolean }[];
  readonly groups: readonly {
    readonly authority: string;
    readonly calls: readonly { readonly to: string }[];
  }[];
  readonly obstacles: readonly string[];
  readonly started: readonly { readonly sent: boolean }[];
};
type Answer = Outcome & { readonly answer: Plan & { readonly error?: { readonly code: string } } };

async function inProject(index: number | undefined, ...argv: string[]): Promise<Outcome> {
  box.env = index === undefined ? {} : { PRIVATE_KEY: anvil.accounts[index]!.privateKey };
  return await box.run('-C', box.path('shop'), '--config', box.path('config.json'), '--yes', ...argv);
}
async function json(index: number | undefined, ...argv: string[]): Promise<Answer> {
  const outcome = await inProject(index, '--json', ...argv);
  return { ...outcome, answer: JSON.parse(outcome.stdout) as Answer['answer'] };
}
const register = (index: number | undefined, ...argv: string[]): Promise<Answer> =>
  json(index, 'measurement', 'register', ...argv);
const transactions = async (): Promise<number[]> =>
  await Promise.all(
    [OWNER, DEVELOPER].map((index) => client.public.getTransactionCount({ address: account(index) })),
  );

test('a project is planned, registered by its owners, and a dry run of deploy says the same', async () => {
  const before = await transactions();
  const planned = await json(undefined, 'measurement', 'plan', '--any-device');
  expect(planned.code, planned.stderr).toBe(0);
  expect(planned.answer).toMatchObject({ app_id: app.toLowerCase(), simulated: true, obstacles: [] });
  expect(planned.answer.entries.map(({ what, allowed }) => [what.split(' 0x')[0], allowed])).toEqual([
    ['OS image', false],
    ['app', true],
    ['compose hash', false],
    ['any device', false],
  ]);
  expect(planned.answer.groups.map(({ authority }) => authority)).toEqual([
    account(OWNER),
    account(DEVELOPER),
  ]);
  const composeHash = planned.answer.entries[2]!.what.split(' ').at(-1) as Hex;
  const image = planned.answer.entries[0]!.what.split(' ').at(-1) as Hex;

  // It stops because the image is not allowed, after it said who would have to allow what.
  const early = await inProject(undefined, 'deploy', '--dry-run');
  expect(early.code).not.toBe(0);
  expect(early.stdout).toContain(`missing  OS image ${image}`);
  expect(early.stdout).toContain(`missing  compose hash ${composeHash}`);
  expect(early.stdout).toContain(`To be made by the account ${account(OWNER)}:`);
  expect(early.stdout).toContain('Denied all the same: Device not allowed');
  expect(early.stderr).toContain('OS image is not allowed');

  // What a simulator makes is registered by nobody who did not ask for it; a dry run and a stranger change nothing.
  const refused = await register(OWNER, '--any-device');
  expect([refused.code, refused.answer]).toMatchObject([1, { error: { code: 'refused' } }]);
  expect(refused.stderr).toContain('is SIMULATED: it is not registered');
  const dry = await register(OWNER, '--any-device', '--allow-simulated', '--dry-run');
  expect(dry.answer.started).toMatchObject([{ sent: false }]);
  const stranger = await register(STRANGER, '--any-device', '--allow-simulated');
  expect([stranger.code, stranger.answer.started]).toEqual([1, []]);
  expect(await transactions()).toEqual(before);

  for (const index of [OWNER, DEVELOPER]) {
    const one = await register(index, '--any-device', '--allow-simulated');
    expect(one.answer.started, one.stderr).toMatchObject([{ sent: true }]);
  }
  const read = (address: Address, abi: unknown, functionName: string, ...args: Hex[]): Promise<unknown> =>
    client.public.readContract({ address, abi: abi as Abi, functionName, args });
  expect(await read(kms, dstackKmsAbi, 'allowedOsImages', image)).toBe(true);
  expect(await read(app, dstackAppAbi, 'allowedComposeHashes', composeHash)).toBe(true);
  expect(await read(app, dstackAppAbi, 'allowAnyDevice')).toBe(true);
  expect((await register(STRANGER, '--any-device', '--allow-simulated')).answer.missing).toBe(0);

  const late = await inProject(undefined, 'deploy', '--dry-run');
  expect(late.code, late.stderr).toBe(0);
  expect(late.stdout).toContain('Nothing is missing');
  expect(late.stdout).toContain(`Would deploy compose hash ${composeHash.slice(2)}`);
  const shown = JSON.parse((await inProject(undefined, '--json', 'deploy', '--dry-run')).stdout);
  expect(shown).toMatchObject({ dry_run: true, compose_hash: composeHash.slice(2) });
});

test("an account that owns the key service's contract and the application's makes one transaction for each", async () => {
  const own = (await deployApp({ client, kms, owner: account(OWNER), allowAnyDevice: false })).appId;
  await client.public.request({
    method: 'anvil_impersonateAccount',
    params: [account(OWNER)],
  } as never);
  change((config) => ({ ...config, app_id: own.slice(2).toLowerCase() }));
  const image = (await register(STRANGER, '--allow-simulated')).answer.entries[0]!.what.split(' ').at(
    -1,
  ) as Hex;
  const removal = { to: kms, abi: dstackKmsAbi as Abi, functionName: 'removeOsImageHash', args: [image] };
  await client.public.request({
    method: 'eth_sendTransaction',
    params: [{ from: account(OWNER), to: kms, data: encodeFunctionData(removal) }],
  } as never);
  await expect.poll(async () => (await register(STRANGER, '--allow-simulated')).answer.missing).toBe(2);
  const dry = await register(OWNER, '--allow-simulated', '--dry-run');
  expect([dry.code, dry.answer.started], dry.stderr).toMatchObject([0, [{ sent: false }, { sent: false }]]);
  const done = await register(OWNER, '--allow-simulated');
  expect([done.code, done.answer.started], done.stderr).toMatchObject([0, [{ sent: true }, { sent: true }]]);
  expect((await register(OWNER, '--allow-simulated')).answer.missing).toBe(0);
  change((config) => ({ ...config, app_id: app.slice(2).toLowerCase() }));
});

test('a chain of another number, and contracts of unknown code, are refused before anything is planned', async () => {
  const before = await transactions();
  const code = async (): Promise<[number, string | undefined]> => {
    const { code: exit, answer } = await register(OWNER, '--any-device', '--allow-simulated');
    return [exit, answer.error?.code];
  };
  configure({ chain_id: anvil.chainId + 1 });
  expect(await code()).toEqual([1, 'chain-mismatch']);
  configure({ kms_contract: app });
  expect(await code()).toEqual([1, 'not-found']);
  configure({});
  change((config) => ({ ...config, app_id: kms.slice(2).toLowerCase() }));
  expect(await code()).toEqual([1, 'not-allowed']);
  change((config) => ({ ...config, app_id: '11'.repeat(20) }));
  expect(await code()).toEqual([1, 'app_not_registered']);
  change((config) => ({ ...config, app_id: app.slice(2).toLowerCase() }));
  expect(await transactions()).toEqual(before);
});

test('a project that takes no keys from a KMS has nothing to register, and is no key service', async () => {
  const service = await register(OWNER, '--role', 'kms');
  expect(service.stderr).toContain('The measurements of a key service come from its running machine');
  rmSync(box.path('shop', '.env'));
  change((config) => ({ ...config, key_provider: 'none' }));
  const none = await register(OWNER, '--allow-simulated');
  expect(none.stderr).toContain('takes no keys from a KMS');
  expect([service.code, none.code]).toEqual([1, 1]);
});
