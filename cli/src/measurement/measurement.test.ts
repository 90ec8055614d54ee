/** Evidence of a simulated machine, and contracts of each kind of owner on one real chain. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { composeHash } from '@dstack-cloud/app';
import { encodeAttestation, reportData } from '@dstack-cloud/attestation';
import { type EvidenceDevice, openTdxDevice } from '@dstack-cloud/attestation/attester';
import {
  type Anvil,
  buildContracts,
  type ChainClient,
  connectChain,
  deployApp,
  deployKms,
  dstackKmsAbi,
  loadArtifact,
  startAnvil,
} from '@dstack-cloud/contracts';
import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import {
  type CollateralServer,
  collateralServer,
  createPlatform,
  simulatedBoot,
  type TsmEndpoint,
  tsmEndpoint,
} from '@dstack-cloud/tee-simulator';
import { describeWithFixtures, fixturePath } from '@dstack-cloud/test/fixtures';
import { type Abi, type Address, encodeFunctionData, type Hex } from 'viem';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { Sandbox } from '../testing.ts';

vi.setConfig({ testTimeout: 180_000 });

const IMAGE = 'dstack-sim-0.6.0';
const COMPOSE = '{"manifest_version":2,"name":"x","runner":"docker-compose"}';
const DELAY = 3_600;
const [DEPLOYER, OWNER, DEVELOPER, A, B, STRANGER] = [0, 1, 2, 3, 4, 5] as const;
const platform = createPlatform(new Uint8Array(32).fill(9));
const box = new Sandbox();

let anvil: Anvil;
let client: ChainClient;
let kms: Address;
let app: Address;
let directory: string;
let collateral: CollateralServer;
let endpoint: TsmEndpoint;
let device: EvidenceDevice;
let agent: Server;
let agentUrl: string;

const account = (index: number): Address => anvil.accounts[index]!.address;
const composeOnChain = (): Hex => `0x${toHex(composeHash(utf8(COMPOSE)))}`;

beforeAll(async () => {
  await buildContracts();
  anvil = await startAnvil();
  client = await connectChain({ rpcUrl: anvil.rpcUrl, privateKey: anvil.accounts[DEPLOYER]!.privateKey });
  ({ kms } = await deployKms({ client, owner: account(OWNER) }));
  const { appId } = await deployApp({ client, kms, owner: account(DEVELOPER), allowAnyDevice: false });
  app = appId;
  directory = mkdtempSync(join(tmpdir(), 'measurement-'));
  collateral = await collateralServer(platform);
  await startMachine();
  agent = createServer((request, response) => {
    const nonce = new URL(request.url ?? '', 'http://x').searchParams.get('nonce') ?? '';
    const data = reportData({ tag: 'dstack-public-attestation', content: fromHex(nonce) });
    device.attest(data).then(
      (attestation) =>
        response.end(
          JSON.stringify({ attestation: toHex(encodeAttestation(attestation)), app_compose: COMPOSE }),
        ),
      (error: Error) => response.writeHead(500).end(error.message),
    );
  });
  await new Promise<void>((resolve) => agent.listen(0, '127.0.0.1', resolve));
  agentUrl = `http://127.0.0.1:${(agent.address() as AddressInfo).port}`;
  box.now = new Date();
  writeFileSync(box.path('root.pem'), platform.rootPem);
  writeConfig('trusting.json', { root_ca: { tdx: box.path('root.pem') } });
  writeConfig('vendor.json', {});
  execFileSync('mkfifo', [box.path('pipe')]);
}, 240_000);
afterAll(async () => {
  agent?.closeAllConnections();
  agent?.close();
  await device?.close?.();
  await endpoint?.close();
  await collateral?.close();
  await anvil?.stop();
  box.remove();
  if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
});

function writeConfig(name: string, attestation: object): void {
  const config = { services: { pccs_url: collateral.url }, attestation };
  writeFileSync(box.path(name), JSON.stringify(config));
}

async function startMachine(): Promise<void> {
  const socketPath = join(directory, 'tsm.sock');
  endpoint = await tsmEndpoint(platform, { socketPath, image: IMAGE });
  const at = `unix:${socketPath}`;
  const vmConfig = JSON.stringify(simulatedBoot({ image: IMAGE }).vmConfig);
  const eventLog = join(directory, 'events.log');
  device = await openTdxDevice({ tsm: at, rtmr: at, ccel: at, eventLog, vmConfig: () => vmConfig });
  const events: readonly (readonly [string, Uint8Array])[] = [
    ['system-preparing', new Uint8Array()],
    ['app-id', fromHex(app.slice(2).toLowerCase())],
    ['compose-hash', composeHash(utf8(COMPOSE))],
    ['instance-id', fromHex('22'.repeat(20))],
    ['boot-mr-done', new Uint8Array()],
    ['key-provider', utf8('{"name":"none","id":""}')],
    ['storage-fs', utf8('ext4')],
    ['system-ready', new Uint8Array()],
  ];
  for (const [event, payload] of events) await device.emitEvent({ event, payload });
}

type Answer = {
  readonly missing: number;
  readonly entries: readonly { what: string; allowed: boolean }[];
  readonly groups: readonly {
    by: string;
    delay_seconds: number;
    calls: readonly { operation: string | null }[];
  }[];
  readonly started: readonly (Record<string, unknown> & { file?: string; operation?: string })[];
  readonly left: readonly string[];
  readonly obstacles: readonly string[];
  readonly earliest: number;
};
type Run = { code: number; answer: Answer; stderr: string; stdout: string };

async function measurement(index: number | undefined, ...argv: string[]): Promise<Run> {
  const given = argv.includes('--config') ? [] : ['--config', box.path('trusting.json')];
  box.env = {
    ...{ RPC_URL: anvil.rpcUrl, KMS_CONTRACT_ADDRESS: kms },
    ...(index === undefined ? {} : { PRIVATE_KEY: anvil.accounts[index]!.privateKey }),
  };
  const words = ['measurement', ...argv, ...given, '--network', 'test', '--yes', '--json'];
  const { code, stdout, stderr } = await box.run(...words);
  return { code, answer: stdout === '' ? ({} as Answer) : JSON.parse(stdout), stderr, stdout };
}
const register = (index: number | undefined, ...argv: string[]): Promise<Run> =>
  measurement(index, 'register', agentUrl, '--allow-simulated', ...argv);
async function pass(seconds: number): Promise<void> {
  const request = client.public.request as (one: object) => Promise<unknown>;
  await request({ method: 'evm_increaseTime', params: [seconds] });
  await request({ method: 'evm_mine', params: [] });
}
const gov = async (index: number, ...argv: string[]): Promise<Record<string, unknown>> => {
  box.env = { RPC_URL: anvil.rpcUrl, PRIVATE_KEY: anvil.accounts[index]!.privateKey };
  const { code, stdout, stderr } = await box.run('gov', ...argv, '--network', 'test', '--yes', '--json');
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout);
};
/** From an account that anvil has the key of: no client counts its nonces. */
async function write(from: number, to: Address, functionName: string, ...args: unknown[]): Promise<void> {
  const data = encodeFunctionData({ abi: dstackKmsAbi as Abi, functionName, args });
  const request = client.public.request as (one: object) => Promise<unknown>;
  const params = [{ from: account(from), to, data }];
  const hash = (await request({ method: 'eth_sendTransaction', params })) as Hex;
  const { status } = await client.public.waitForTransactionReceipt({ hash });
  expect(status, functionName).toBe('success');
}

describe('what is refused, before anything is read or sent', () => {
  test.each([
    ['simulated evidence', () => [agentUrl], 'is SIMULATED'],
    [
      'evidence that does not verify',
      () => [agentUrl, '--config', box.path('vendor.json')],
      'does not verify',
    ],
    ['another app than the evidence is of', () => [agentUrl, `--app-id=${account(A)}`], 'is of another app'],
    ['another device', () => [agentUrl, `--device=${'ab'.repeat(32)}`], 'is of another device'],
    ['nothing at all', () => [], 'Name evidence'],
    ['a role that there is none of', () => [agentUrl, '--role', 'gateway'], '--role is app or kms'],
    ['an app for a key service', () => [agentUrl, '--role', 'kms', '--any-device'], 'has no app contract'],
    ['a file that is not there', () => ['nowhere.bin'], 'does not exist'],
    ['a folder', () => ['.'], 'is not a file'],
    ['a pipe that nobody writes to', () => ['pipe'], 'is not a file'],
  ] as const)('%s', async (_, argv, message) => {
    const { code, stderr, stdout } = await measurement(OWNER, 'register', ...argv());
    expect(code, stdout).not.toBe(0);
    expect(stderr).toContain(message);
  });

  test('a debug enclave, a key service in an enclave, and an image that was changed', async () => {
    const pcr = (digit: string): string => digit.repeat(96);
    const measurements = (zero: string): string =>
      JSON.stringify({ Measurements: { PCR0: zero, PCR1: pcr('1'), PCR2: pcr('2') } });
    writeFileSync(box.path('debug.json'), measurements(pcr('0')));
    const debug = await measurement(OWNER, 'register', 'debug.json', '--app-id', app);
    expect(debug.stderr).toContain('debug mode');
    writeFileSync(box.path('good.json'), measurements(pcr('3')));
    const key = await measurement(OWNER, 'register', 'good.json', '--role', 'kms');
    expect(key.stderr).toContain('cannot be a key service');
    const whose = await measurement(OWNER, 'register', 'good.json');
    expect(whose.stderr).toContain('does not say which app it is');
    const { answer } = await measurement(undefined, 'plan', 'good.json', '--app-id', app);
    const [image, , compose] = answer.entries;
    // On Nitro one hash is both.
    expect(image?.what.split(' ').at(-1)).toBe(compose?.what.split(' ').at(-1));
  });

  test('another chain, and contracts of other code', async () => {
    const file = {
      version: 1,
      model: 'A',
      chainId: 1,
      complete: true,
      fromBlock: 0,
      kms,
      apps: [],
      guardians: [],
    };
    writeFileSync(box.path('other-chain.json'), JSON.stringify({ ...file, made: {} }));
    const chain = await register(OWNER, '--governance', 'other-chain.json');
    expect(chain.stderr).toContain('is of another chain');
    // A Timelock behind a proxy answers, and is no DstackKms; an app is none either.
    const { stderr } = await register(OWNER, '--kms', app);
    expect(stderr).toMatch(/is no DstackKms/);
    const unknown = await register(OWNER, '--kms', account(A));
    expect(unknown.stderr).toContain('is no proxy of DstackKms');
  });
});

test('an endpoint that says an image is allowed is found out by a second one', async () => {
  const selector = encodeFunctionData({
    ...{ abi: dstackKmsAbi as Abi, functionName: 'allowedOsImages', args: [`0x${'00'.repeat(32)}`] },
  }).slice(0, 10);
  let lies: (request: { method: string; params?: [{ data?: string }?] }) => string | undefined;
  const headers = { 'content-type': 'application/json' };
  const forwarded = async (body: string): Promise<string> =>
    await (await fetch(anvil.rpcUrl, { method: 'POST', headers, body })).text();
  const answer = async (body: string): Promise<string> => {
    const asked = JSON.parse(body);
    const result = lies(asked);
    return result === undefined
      ? await forwarded(body)
      : JSON.stringify({ jsonrpc: '2.0', id: asked.id, result });
  };
  const liar = createServer((request, response) => {
    response.setHeader('content-type', 'application/json');
    request
      .toArray()
      .then((chunks) => answer(Buffer.concat(chunks).toString()))
      .then(
        (text) => response.end(text),
        () => response.destroy(),
      );
  });
  await new Promise<void>((resolve) => liar.listen(0, '127.0.0.1', resolve));
  try {
    const url = `http://127.0.0.1:${(liar.address() as AddressInfo).port}`;
    const plan = async (env: Record<string, string>): Promise<string> => {
      box.env = { KMS_CONTRACT_ADDRESS: kms, ...env };
      const words = ['measurement', 'plan', agentUrl, '--config', box.path('trusting.json')];
      const { stdout } = await box.run(...words, '--network', 'test', '--json');
      return (JSON.parse(stdout) as { error?: { code: string } }).error?.code ?? 'planned';
    };
    const both = { RPC_URL: anvil.rpcUrl, SECOND_RPC_URL: url };
    lies = () => undefined;
    expect(await plan(both)).toBe('planned');
    lies = ({ method, params }) =>
      method === 'eth_call' && params?.[0]?.data?.startsWith(selector)
        ? `0x${'1'.padStart(64, '0')}`
        : undefined;
    expect(await plan(both)).toBe('chain-inconsistent');
    expect(await plan({ RPC_URL: url, SECOND_RPC_URL: anvil.rpcUrl })).toBe('chain-inconsistent');
  } finally {
    liar.closeAllConnections();
    liar.close();
  }
});

test('collateral of a bundle counts for a time that is named, and never for now', async () => {
  const attestation = await device.attest(new Uint8Array(64));
  const bundle = {
    ...{ format: 'dstack-evidence-bundle', version: 1, time: Math.floor(Date.now() / 1000) - 60, chain: [] },
    evidence: Buffer.from(encodeAttestation(attestation)).toString('base64'),
    collateral: { documents: [], snp: [], pck_certificates: [], crls: {} },
  };
  writeFileSync(box.path('bundle.json'), JSON.stringify(bundle));
  const now = await measurement(undefined, 'plan', 'bundle.json');
  expect(now.code, now.stderr).toBe(0);
  const named = await measurement(undefined, 'plan', 'bundle.json', '--at', new Date().toISOString());
  expect([named.code, named.stderr]).toEqual([1, expect.stringContaining('Collateral is missing')]);
});

describe('owned by accounts', () => {
  test('a plan says who has to make what; nothing is sent', async () => {
    const { code, answer, stderr } = await measurement(undefined, 'plan', agentUrl);
    expect(code, stderr).toBe(0);
    expect(stderr).toContain('SIMULATED');
    expect(answer.missing).toBe(3);
    expect(answer.groups.map(({ by }) => by)).toEqual([
      `the account ${account(OWNER)}`,
      `the account ${account(DEVELOPER)}`,
    ]);
    const demanding = await measurement(undefined, 'plan', agentUrl, '--require-timelock', '86400');
    expect(demanding.answer.obstacles).toHaveLength(2);
    expect(demanding.answer.obstacles[0]).toContain('DstackKms contract has no policy delay of 86400 s');
  });

  test('each owner makes its part in one transaction, a second time nothing is missing', async () => {
    const dry = await register(undefined, '--dry-run');
    expect(dry.code, dry.stderr).toBe(0);
    expect(dry.answer.started.every(({ sent }) => sent === false)).toBe(true);
    const owner = await register(OWNER);
    expect(owner.code).toBe(1);
    expect(owner.stderr).toContain(
      `Left for the account ${account(DEVELOPER)}: compose hash ${composeOnChain()}`,
    );
    const before = await client.public.getTransactionCount({ address: account(DEVELOPER) });
    const developer = await register(DEVELOPER);
    expect(developer.code, developer.stderr).toBe(0);
    expect(developer.answer.started).toHaveLength(1);
    // Compose hash and device, in one.
    expect(await client.public.getTransactionCount({ address: account(DEVELOPER) })).toBe(before + 1);
    const again = await register(STRANGER);
    expect([again.code, again.answer.missing, again.answer.started]).toEqual([0, 0, []]);
    const text = await box.run(
      ...['measurement', 'plan', agentUrl, '--config', box.path('trusting.json'), '--network', 'test'],
    );
    expect(text.stdout).toContain('Nothing is missing');
  });

  test('an end that has passed is missing again, and what denies all the same is said', async () => {
    const { answer } = await measurement(undefined, 'plan', agentUrl);
    const image = answer.entries[0]!.what.split(' ').at(-1) as Hex;
    const until = (await client.public.getBlock()).timestamp + 100n;
    await write(OWNER, kms, 'addOsImageHashUntil', image, until);
    await write(OWNER, kms, 'blockApp', app);
    await pass(200);
    const after = await measurement(undefined, 'plan', agentUrl);
    expect(after.answer.entries[0]).toMatchObject({ allowed: false, note: expect.stringContaining('ended') });
    expect(after.answer.obstacles).toEqual([expect.stringContaining('App is blocked')]);
    await write(OWNER, kms, 'unblockApp', app);
    expect((await register(OWNER)).answer.started).toHaveLength(1);
  });

  test('a key service: image, measurement and device in one transaction', async () => {
    const first = await register(OWNER, '--role', 'kms');
    expect(first.code, first.stderr).toBe(0);
    expect(first.answer.entries.map(({ what }) => what.split(' 0x')[0])).toEqual([
      'OS image',
      'KMS measurement',
      'KMS device',
    ]);
    expect((await register(OWNER, '--role', 'kms')).answer.missing).toBe(0);
  });
});

describe('with a policy delay', () => {
  test('is announced, waits, and is made', async () => {
    const { answer } = await measurement(undefined, 'plan', agentUrl);
    await write(OWNER, kms, 'removeOsImageHash', answer.entries[0]!.what.split(' ').at(-1));
    await write(OWNER, kms, 'setPolicyDelay', DELAY);
    const early = await register(OWNER);
    expect(early.stderr).toContain('Announce it with --announce');
    const announced = await register(OWNER, '--announce');
    expect(announced.code, announced.stderr).toBe(0);
    const twice = await register(OWNER, '--announce');
    expect(twice.answer.started).toEqual([]);
    const now = (await client.public.getBlock()).timestamp;
    expect(Number(now) + DELAY - twice.answer.earliest).toBeLessThan(60);
    await pass(DELAY);
    expect((await register(OWNER)).answer.started).toMatchObject([{ sent: true }]);
    expect((await register(OWNER)).answer.missing).toBe(0);
  });
});

describe('owned by a Timelock with a Safe', () => {
  test('one proposal for both contracts; what is scheduled is not proposed twice', async () => {
    const { kms: governed } = await deployKms({ client, owner: account(DEPLOYER) });
    const kmsBefore = kms;
    kms = governed;
    // The same app, which the other registry does not know yet.
    const words = ['--model', 'C', '--signer', account(A), '--signer', account(B), '--threshold', '2'];
    await write(DEVELOPER, app, 'transferOwnership', account(DEPLOYER));
    const deployed = await gov(
      DEPLOYER,
      ...['deploy', ...words, '--delay', String(DELAY), '--kms', governed, '--app', app],
    );
    const owner = deployed['timelock'] as Address;
    const printed = await register(undefined, '--any-device', '--timelock', owner);
    expect(printed.answer.started).toMatchObject([{ sent: false, transaction: { to: owner } }]);
    const batch = await register(
      undefined,
      '--any-device',
      '--timelock',
      owner,
      '--safe',
      deployed['safe'] as string,
    );
    expect(batch.answer.started).toMatchObject([
      { transaction: { version: '1.0', transactions: [{ to: owner }] } },
    ]);
    const wrong = await register(undefined, '--any-device', '--safe', account(STRANGER));
    expect([wrong.code, wrong.answer.left]).toEqual([1, [owner]]);
    const offered = await register(A, '--any-device');
    expect(offered.code, offered.stderr).toBe(0);
    const [{ file = '', operation = '' } = {}] = offered.answer.started;
    expect(offered.answer.groups).toHaveLength(1);
    expect(offered.answer.groups[0]).toMatchObject({ delay_seconds: DELAY });
    expect(offered.answer.groups[0]?.by).toContain(`2 of 2 signers of Safe`);
    await gov(B, 'approve', file);
    await gov(STRANGER, 'submit', file);
    const again = await register(A, '--any-device');
    expect([again.code, again.answer.started]).toEqual([0, []]);
    expect(again.answer.groups[0]?.calls.map((call) => call.operation)).toEqual(Array(3).fill(operation));
    await pass(DELAY);
    const execution = await gov(A, 'execute', operation);
    await gov(B, 'approve', String(execution['file']));
    await gov(STRANGER, 'submit', String(execution['file']));
    expect((await register(STRANGER, '--any-device')).answer.missing).toBe(0);
    kms = kmsBefore;
  });
});

describe('the code that a contract has', () => {
  test('decides: a proxy to other code is no DstackKms', async () => {
    const { abi, bytecode } = loadArtifact('DstackApp');
    const hash = await client.wallet.deployContract({ abi, bytecode, args: [] } as never);
    const { contractAddress } = await client.public.waitForTransactionReceipt({ hash });
    // The address of an implementation alone is no proxy, and nothing is sent to it.
    const { code, stderr } = await register(OWNER, '--kms', contractAddress as string);
    expect([code, stderr]).toEqual([1, expect.stringContaining('is no proxy of DstackKms')]);
  });
});

describeWithFixtures('recorded evidence', 'attestation/dstack/nitro-attestation-v0-debug.bin', () => {
  test('of a debug enclave is refused', async () => {
    const file = fixturePath('attestation/dstack/nitro-attestation-v0-debug.bin');
    const { code, stderr } = await measurement(
      OWNER,
      'register',
      file,
      '--app-id',
      app,
      '--at',
      '2026-01-01',
    );
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/does not verify/);
  });

  test('of a Nitro enclave asks for one hash as OS image and as compose hash, as deploy checks it', async () => {
    const file = fixturePath('attestation/dstack/nitro-attestation-v0.bin');
    const { code, answer, stderr } = await measurement(
      ...([
        undefined,
        'plan',
        file,
        '--app-id',
        app,
        '--any-device',
        '--at',
        '2025-12-25T16:05:00Z',
      ] as const),
    );
    expect(code, stderr).toBe(0);
    const hash = '0x1894b0b29e94a9db16e88a2914f0923e52bb16c08bf3bb484df786a147e2eb79';
    expect(answer.entries.map(({ what }) => what)).toContain(`OS image ${hash}`);
    expect(answer.entries.map(({ what }) => what)).toContain(`compose hash ${hash}`);
  });
});
