/** Every documented task against a local chain, with the lines that scripts look for. */
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import {
  type Abi,
  type Address,
  decodeFunctionData,
  encodeErrorResult,
  encodeFunctionData,
  type Hex,
  parseAbi,
  zeroAddress,
  zeroHash,
} from 'viem';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dstackAppAbi } from '../abi/dstack-app.ts';
import { dstackKmsAbi } from '../abi/dstack-kms.ts';
import { contractsDirectory, loadArtifact } from '../artifact.ts';
import { deployKms } from '../deploy.ts';
import { startTestChain, type TestChain } from '../test/test-chain.ts';
import { deployCode, transact } from '../transact.ts';
import { hardhat } from './hardhat.ts';
import { tasks } from './run-task.ts';
import { taskSummaries } from './task-summaries.ts';

let chain: TestChain;
let directory: string;
beforeAll(async () => {
  chain = await startTestChain();
  directory = mkdtempSync(join(tmpdir(), 'tasks-'));
});
afterAll(async () => {
  await chain?.anvil.stop();
  rmSync(directory, { recursive: true, force: true });
});

type Outcome = { code: number; out: string; error: string };
type Options = { env?: Record<string, string | undefined>; answer?: boolean };

/** `npx hardhat …`, by the owner of the registry. */
async function run(words: readonly string[], { env = {}, answer = true }: Options = {}): Promise<Outcome> {
  let [out, error] = ['', ''];
  const isJson = words.includes('--json');
  const code = await hardhat(
    words,
    {
      env: {
        RPC_URL: chain.anvil.rpcUrl,
        PRIVATE_KEY: chain.anvil.accounts[0]!.privateKey,
        KMS_CONTRACT_ADDRESS: chain.kms,
        ...env,
      },
      terminal: {
        print: (line) => {
          if (!isJson) out += `${line}\n`;
        },
        document: (value, label = '') => {
          if (!isJson) out += `${label}${JSON.stringify(value)}\n`;
        },
        note: (line) => {
          error += `${line}\n`;
        },
        confirm: async () => answer,
      },
    },
    {
      out: (text) => {
        out += text;
      },
      error: (text) => {
        error += text;
      },
    },
  );
  return { code, out, error };
}

const post = (request: object) => ({
  ...{ method: 'POST', headers: { 'content-type': 'application/json' } },
  body: JSON.stringify(request),
});

/** An endpoint whose URL has a key. It knows its chain; what `answer` leaves undefined fails. */
async function startEndpoint(
  answer: (request: object) => unknown,
): Promise<{ url: string; stop: () => Promise<unknown> }> {
  const respond = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const asked = (await json(request)) as { id: number; method: string };
    const answered =
      asked.method === 'eth_chainId'
        ? { jsonrpc: '2.0', id: asked.id, result: '0x7a69' }
        : await answer(asked);
    response.statusCode = answered === undefined ? 500 : 200;
    response.end(JSON.stringify(answered ?? 'nothing'));
  };
  const server = createServer((request, response) => {
    respond(request, response).catch((error: Error) => response.destroy(error));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/secret-key`,
    async stop() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

const h = (digit: string): string => digit.repeat(64);
const read = (address: Address, abi: Abi, functionName: string, ...args: unknown[]): Promise<unknown> =>
  chain.owner.public.readContract({ address, abi, functionName, args });
const ofKms = (name: string, ...args: unknown[]) => read(chain.kms, dstackKmsAbi as Abi, name, ...args);
const ofApp = (name: string, ...args: unknown[]) => read(chain.app, dstackAppAbi as Abi, name, ...args);

describe('tasks that write', () => {
  const app = (): Address => chain.app;
  type Row = [() => string[], string, () => Promise<unknown>, unknown];
  const rows: Row[] = [
    [
      () => ['kms:set-gateway', 'gateway-id'],
      'Gateway App ID set successfully',
      () => ofKms('gatewayAppId'),
      'gateway-id',
    ],
    [
      () => ['kms:add', h('1')],
      'KMS aggregated MR added successfully',
      () => ofKms('kmsAllowedAggregatedMrs', `0x${h('1')}`),
      true,
    ],
    [
      () => ['kms:remove', `0x${h('1')}`],
      'KMS aggregated MR removed successfully',
      () => ofKms('kmsAllowedAggregatedMrs', `0x${h('1')}`),
      false,
    ],
    [
      () => ['kms:add-image', h('2')],
      'Image added successfully',
      () => ofKms('allowedOsImages', `0x${h('2')}`),
      true,
    ],
    [
      () => ['kms:add-image', h('2'), '--until', '2030-01-01T00:00:00Z'],
      'Image added successfully',
      () => ofKms('osImageNotAfter', `0x${h('2')}`),
      1_893_456_000n,
    ],
    [
      () => ['kms:remove-image', h('2')],
      'Image removed successfully',
      () => ofKms('allowedOsImages', `0x${h('2')}`),
      false,
    ],
    [
      () => ['kms:add-device', h('3')],
      'Device compose hash added successfully',
      () => ofKms('kmsAllowedDeviceIds', `0x${h('3')}`),
      true,
    ],
    [
      () => ['kms:remove-device', h('3')],
      'Device ID removed successfully',
      () => ofKms('kmsAllowedDeviceIds', `0x${h('3')}`),
      false,
    ],
    [
      () => ['kms:set-app-implementation', chain.deployment.appImplementation!],
      'DstackApp implementation set successfully',
      () => ofKms('appImplementation'),
      expect.any(String),
    ],
    [() => ['kms:pause'], 'KMS contract paused', () => ofKms('paused'), true],
    [() => ['kms:unpause'], 'KMS contract unpaused', () => ofKms('paused'), false],
    [() => ['kms:block-app', app()], 'App blocked', () => ofKms('blockedApps', app()), true],
    [() => ['kms:unblock-app', app()], 'App unblocked', () => ofKms('blockedApps', app()), false],
    [
      () => ['kms:deny-advisory', 'INTEL-SA-00837'],
      'Advisory denied',
      () => ofKms('policyEpoch'),
      expect.any(BigInt),
    ],
    [
      () => ['kms:allow-advisory', 'INTEL-SA-00837'],
      'Advisory allowed',
      () => ofKms('policyEpoch'),
      expect.any(BigInt),
    ],
    [
      () => ['kms:set-app-expiry', app(), '--until', '1893456000'],
      'App expiry set',
      () => ofKms('appNotAfter', app()),
      1_893_456_000n,
    ],
    [
      () => ['kms:add-guardian', chain.stranger.account.address],
      'Guardian added',
      () => ofKms('isGuardian', chain.stranger.account.address),
      true,
    ],
    [
      () => ['kms:remove-guardian', chain.stranger.account.address],
      'Guardian removed',
      () => ofKms('isGuardian', chain.stranger.account.address),
      false,
    ],
    [
      () => ['app:add-hash', '--app-id', app(), h('4')],
      'Compose hash added successfully',
      () => ofApp('allowedComposeHashes', `0x${h('4')}`),
      true,
    ],
    [
      () => ['app:replace-hash', h('4'), h('5'), '--app-id', app(), '--grace', '60'],
      'Compose hash replaced successfully',
      () => ofApp('allowedComposeHashes', `0x${h('5')}`),
      true,
    ],
    [
      () => ['app:remove-hash', '--app-id', app(), h('4')],
      'Compose hash removed successfully',
      () => ofApp('allowedComposeHashes', `0x${h('4')}`),
      false,
    ],
    [
      () => ['app:add-device', `--app-id=${app()}`, h('6')],
      'Device ID added successfully',
      () => ofApp('allowedDeviceIds', `0x${h('6')}`),
      true,
    ],
    [
      () => ['app:remove-device', '--app-id', app(), h('6')],
      'Device ID removed successfully',
      () => ofApp('allowedDeviceIds', `0x${h('6')}`),
      false,
    ],
    [
      () => ['app:set-allow-any-device', '--app-id', app(), '--allow-any-device'],
      'Allow any device set successfully',
      () => ofApp('allowAnyDevice'),
      true,
    ],
    [
      () => ['app:set-allow-any-device', '--app-id', app()],
      'Allow any device set successfully',
      () => ofApp('allowAnyDevice'),
      false,
    ],
    // As the documentation has it.
    [
      () => ['app:set-allow-any-device', '--app-id', app(), 'true'],
      'Allow any device set successfully',
      () => ofApp('allowAnyDevice'),
      true,
    ],
    [
      () => ['app:set-require-tcb', '--app-id', app(), 'true'],
      'TCB requirement set',
      () => ofApp('requireTcbUpToDate'),
      true,
    ],
    [
      () => ['app:add-guardian', '--app-id', app(), chain.stranger.account.address],
      'Guardian added',
      () => ofApp('isGuardian', chain.stranger.account.address),
      true,
    ],
    [
      () => ['app:remove-guardian', '--app-id', app(), chain.stranger.account.address],
      'Guardian removed',
      () => ofApp('isGuardian', chain.stranger.account.address),
      false,
    ],
  ];

  test('each says so and has its effect', async () => {
    for (const [words, line, effect, expected] of rows) {
      const { code, out, error } = await run(['--network', 'test', ...words()]);
      expect({ words: words()[0], code, error }).toEqual({ words: words()[0], code: 0, error: '' });
      expect(out).toMatch(/^Waiting for transaction 0x[0-9a-f]{64} to be confirmed\.\.\.\n/);
      expect(out.trimEnd().split('\n').at(-1)).toBe(line);
      expect(await effect()).toEqual(expected);
    }
  }, 60_000);

  test('kms:set-info reads a file', async () => {
    const path = join(directory, 'info.json');
    const info = { k256Pubkey: `0x02${h('a')}`, caPubkey: 'cafe', quote: '0x01', eventlog: '0x' };
    writeFileSync(path, JSON.stringify(info));
    expect((await run(['kms:set-info', path])).out).toContain('KMS info set successfully');
    const shown = (await run(['info:kms'])).out;
    expect(JSON.parse(shown.replace('KMS Info: ', ''))).toEqual({
      ...info,
      caPubkey: '0xcafe',
      eventlog: undefined,
    });
    writeFileSync(path, JSON.stringify({ ...info, k256Pubkey: '0x0102' }));
    expect((await run(['kms:set-info', path])).error).toContain(
      'must be a compressed secp256k1 key of 33 bytes',
    );
  });
});

describe('tasks that create', () => {
  test('kms:create-app, by the next address and by one that is known before', async () => {
    const plain = await run(['kms:create-app', '--allow-any-device', '--hash', h('7')]);
    expect(plain.out).toMatch(
      /✅ App deployed and registered successfully!\nProxy Address \(App Id\): 0x\w{40}\nOwner: 0x\w{40}\nTransaction hash: 0x/,
    );
    expect(plain.out).toContain('Deployed with 0 initial device and 1 initial compose hash');
    const owner = chain.stranger.account.address;
    const words = [
      'kms:create-app',
      '--salt',
      'one',
      '--require-tcb',
      '--owner',
      owner,
      '--device',
      h('8'),
      '--json',
    ];
    const made = JSON.parse((await run(words)).out);
    expect(await read(made.appId, dstackAppAbi as Abi, 'owner')).toBe(owner);
    expect(await read(made.appId, dstackAppAbi as Abi, 'requireTcbUpToDate')).toBe(true);
    expect((await run(words)).code).toBe(1);
    expect((await run(['kms:create-app', '--salt', 'compile'])).out).toContain('Proxy Address');
    expect((await run(['--network', 'test', 'compile'])).out).toMatch(/^(Compiled|Nothing to compile)/);
  });

  test('kms:deploy asks, and deploys all three', async () => {
    const refused = await run(['kms:deploy', '--with-app-impl'], { answer: false });
    expect(refused).toMatchObject({ code: 1, error: expect.stringContaining('not confirmed') });
    const { out, code } = await run(['kms:deploy', '--with-app-impl'], {
      env: { KMS_CONTRACT_ADDRESS: undefined },
    });
    expect(code).toBe(0);
    for (const line of [
      'Deploying with account: ',
      'Account balance: ',
      '✅ DstackApp implementation deployed to: ',
      'DstackKms Proxy deployed to: ',
      'Implementation deployed to: ',
      'Transaction hash: ',
      '✅ Complete KMS setup deployed successfully!',
    ]) {
      expect(out).toContain(line);
    }
    const kms = /DstackKms Proxy deployed to: (\S+)/.exec(out)![1] as Address;
    expect(await read(kms, dstackKmsAbi as Abi, 'owner')).toBe(chain.owner.account.address);
  });

  test('a service that keeps the key signs deployments and calls', async () => {
    // anvil signs for its accounts; this one has sent nothing before.
    const from = chain.anvil.accounts[6]!.address;
    const service = ['--signer-url', chain.anvil.rpcUrl, '--from', from];
    const env = { PRIVATE_KEY: undefined };
    expect(await run(['app:deploy-impl', ...service], { env })).toMatchObject({ code: 0, error: '' });
    expect(await run(['kms:create-app', ...service], { env })).toMatchObject({ code: 0, error: '' });
  });

  test('an endpoint cannot name another contract than the one that was created', async () => {
    const endpoint = await startEndpoint(async (request) => {
      const answer = await (await fetch(chain.anvil.rpcUrl, post(request))).json();
      if ((request as { method?: string }).method !== 'eth_getTransactionReceipt') return answer;
      const { result } = answer as { result: object | null };
      return { ...(answer as object), result: result && { ...result, contractAddress: chain.app } };
    });
    const outcome = await run(['kms:deploy'], { env: { RPC_URL: endpoint.url } });
    await endpoint.stop();
    expect(outcome).toMatchObject({
      code: 1,
      error: expect.stringContaining(`the endpoint says ${chain.app}`),
    });
    expect(outcome.out).not.toContain('deployed to');
  });

  test('kms:deploy-impl, app:deploy-impl, app:deploy', async () => {
    expect((await run(['kms:deploy-impl'])).out).toContain('✅ DstackKms implementation deployed to: 0x');
    expect((await run(['app:deploy-impl'])).out).toContain('✅ DstackApp implementation deployed to: 0x');
    const { out } = await run(['app:deploy', '--hash', h('9')]);
    const app = /^App ID: (\S+)$/m.exec(out)![1] as Address;
    expect(await ofKms('registeredApps', app)).toBe(true);
  });

  test('upgrades of 0.6, dry and real; a contract from before 0.6 is left alone', async () => {
    const { kms } = await deployKms({ client: chain.owner, release: '0.6' });
    const dry = await run(['kms:upgrade', '--address', kms, '--dry-run']);
    expect(dry.out).toMatch(/^Upgrade transaction data: 0x4f1ef286[0-9a-f]+$/m);
    const upgraded = await run(['kms:upgrade', '--address', kms]);
    expect(upgraded.out).toContain('DstackKms proxy upgraded');
    expect(await read(kms, dstackKmsAbi as Abi, 'version')).toBe(3n);
    expect((await run(['app:upgrade', '--address', chain.app])).code).toBe(0);
    expect((await run(['kms:upgrade', '--address', kms, '--implementation', chain.app])).error).toContain(
      'is no UUPS implementation',
    );
    expect((await run(['kms:upgrade', '--address', chain.owner.account.address])).error).toContain(
      'is no proxy',
    );

    const proxy = loadArtifact('ERC1967Proxy');
    const setUp = encodeFunctionData({
      ...{ abi: dstackAppAbi, functionName: 'initialize' },
      args: [chain.owner.account.address, false, true, zeroHash, zeroHash],
    });
    const { address } = await deployCode(chain.owner, proxy.abi, proxy.bytecode, [
      chain.deployment.appImplementation,
      setUp,
    ]);
    const request = chain.owner.public.request as (call: object) => Promise<unknown>;
    await request({ method: 'anvil_setStorageAt', params: [address, zeroHash, `0x${'0'.repeat(63)}1`] });
    expect((await run(['app:upgrade', '--address', address])).error).toContain('from before 0.6');
  }, 60_000);
});

describe('tasks that read', () => {
  test.each([
    ['kms:get-app-implementation', [], /^DstackApp implementation: 0x\w{40}$/],
    ['info:gateway', [], /^Gateway App ID: /],
    ['info:owner', [], /^Owner: 0x\w{40}$/],
    ['info:image', [h('c')], /^OS image allowed: false$/],
    ['info:mr', [h('c')], /^KMS aggregated MR allowed: false$/],
    ['info:device', [h('c')], /^KMS device allowed: false$/],
  ] as const)('%s', async (name, words, line) => {
    // Nobody has to sign.
    const { out, error } = await run([name, ...words], { env: { PRIVATE_KEY: undefined } });
    expect(error).toBe('');
    expect(out.trim()).toMatch(line);
  });

  test('info:app, of this version and of 0.6', async () => {
    expect((await run(['info:app', '--app-id', chain.app])).out).toContain('version: 3');
    const { kms } = await deployKms({ client: chain.owner, release: '0.6' });
    const made = await run(['kms:create-app'], { env: { KMS_CONTRACT_ADDRESS: kms } });
    const app = /App Id\): (\S+)/.exec(made.out)![1]!;
    const { out } = await run(['info:app', '--app-id', app], { env: { KMS_CONTRACT_ADDRESS: kms } });
    expect(out).toContain('version: not in this version');
    expect(out).toContain('upgradesDisabled: false');
    expect((await run(['info:registered', app], { env: { KMS_CONTRACT_ADDRESS: kms } })).out).toBe(
      'App registered: true\n',
    );
  });
});

describe('nothing is sent', () => {
  const count = () => chain.owner.public.getTransactionCount({ address: chain.owner.account.address });

  test('with --dry-run', async () => {
    const before = await count();
    const { out } = await run(['kms:add-image', h('d'), '--dry-run']);
    expect(out).toContain(`Would allow an OS image: call addOsImageHash(0x${h('d')}) on ${chain.kms}`);
    expect((await run(['kms:deploy', '--dry-run'])).out).toContain('Nothing was deployed');
    expect(await count()).toBe(before);
  });

  test('with --safe and --timelock, which give the transaction to sign', async () => {
    const owner = chain.owner.account.address;
    const before = await count();
    const safe = JSON.parse((await run(['kms:add-image', h('d'), '--safe', owner])).out);
    const data = encodeFunctionData({
      abi: dstackKmsAbi,
      functionName: 'addOsImageHash',
      args: [`0x${h('d')}`],
    });
    expect(safe).toMatchObject({
      version: '1.0',
      chainId: '31337',
      transactions: [{ to: chain.kms, value: '0', data }],
    });
    expect(await count()).toBe(before);
    // A Safe that does not own the contract could not make the call.
    const stranger = chain.stranger.account.address;
    expect((await run(['kms:add-image', h('d'), '--safe', stranger])).error).toContain(
      'caller is not the owner',
    );
  });

  test('by a stranger who wants an upgrade, and by one for a fixed implementation', async () => {
    const [, { address, privateKey }] = chain.anvil.accounts as [
      unknown,
      { address: Address; privateKey: Hex },
    ];
    const ofStranger = () => chain.owner.public.getTransactionCount({ address });
    const before = await ofStranger();
    const outcome = await run(['kms:upgrade', '--address', chain.kms], { env: { PRIVATE_KEY: privateKey } });
    expect(outcome.error).toContain('caller is not the owner');
    expect(await ofStranger()).toBe(before);
    const { appId } = JSON.parse((await run(['kms:create-app', '--json'])).out);
    await transact(chain.owner, appId, dstackAppAbi as Abi, 'disableUpgrades', []);
    const mine = await count();
    expect((await run(['app:upgrade', '--address', appId])).error).toContain('permanently disabled');
    expect(await count()).toBe(mine);
  });

  test('an app that a Safe creates is owned by it, and no key is needed', async () => {
    const safe = `0x${'5'.repeat(40)}` as Address;
    const { out } = await run(['kms:create-app', '--safe', safe], { env: { PRIVATE_KEY: undefined } });
    const { data } = JSON.parse(out).transactions[0];
    expect(decodeFunctionData({ abi: dstackKmsAbi, data }).args[0]).toBe(safe);
  });

  test('a Timelock operation that is scheduled as printed can be executed after its delay', async () => {
    const { owner } = chain;
    const me = owner.account.address;
    const artifact = loadArtifact('DstackTimelock');
    const args = [3600n, [me], [me], `0x${'0'.repeat(40)}`, 0n];
    const timelock = (await deployCode(owner, artifact.abi, artifact.bytecode, args)).address;
    const { kms } = await deployKms({ client: owner });
    // What is scheduled is public, so it need not be announced.
    await transact(owner, kms, dstackKmsAbi, 'setPolicyDelay', [3600n]);
    const refused = await run(['kms:add-image', h('e')], { env: { KMS_CONTRACT_ADDRESS: kms } });
    expect(refused.error).toContain('not public for the policy delay of 3600 s');
    const announced = await run(['kms:add-image', h('e'), '--announce'], {
      env: { KMS_CONTRACT_ADDRESS: kms },
    });
    expect(announced.out).toContain('Announced.');
    await transact(owner, kms, dstackKmsAbi, 'transferOwnership', [timelock]);
    const env = { KMS_CONTRACT_ADDRESS: kms };
    const { out } = await run(['kms:add-image', h('e'), '--timelock', timelock, '--json'], { env });
    const { transaction, id, salt } = JSON.parse(out);
    const hash = await owner.wallet.sendTransaction({ to: transaction.to, data: transaction.data });
    await owner.public.waitForTransactionReceipt({ hash });
    expect(await read(timelock, artifact.abi, 'isOperationPending', id)).toBe(true);
    const request = owner.public.request as (call: object) => Promise<unknown>;
    await request({ method: 'evm_increaseTime', params: [3600] });
    await request({ method: 'evm_mine', params: [] });
    const data = encodeFunctionData({
      abi: dstackKmsAbi,
      functionName: 'addOsImageHash',
      args: [`0x${h('e')}`],
    });
    await transact(owner, timelock, artifact.abi, 'execute', [kms, 0n, data, zeroHash, salt as Hex]);
    expect(await read(kms, dstackKmsAbi as Abi, 'allowedOsImages', `0x${h('e')}`)).toBe(true);
    // The same through a Safe that proposes.
    const batch = JSON.parse(
      (await run(['kms:add-image', h('f'), '--timelock', timelock, '--safe', me], { env })).out,
    );
    const stranger = chain.stranger.account.address;
    expect(
      (await run(['kms:add-image', h('f'), '--timelock', timelock, '--safe', stranger], { env })).error,
    ).toContain('lacks the role');
    expect(batch.transactions[0]).toMatchObject({ to: timelock, data: expect.stringMatching(/^0x01d5062a/) });
  });
});

test('the commands of docs/contracts.md do what they say', async () => {
  const page = readFileSync(join(contractsDirectory, '../docs/contracts.md'), 'utf8');
  const block = /```sh\n([^`]+)```/.exec(page)![1]!;
  const commands = block.split('\n').filter((line) => line.startsWith('npx hardhat '));
  expect(commands.length).toBeGreaterThan(10);
  const { kms } = await deployKms({ client: chain.owner, release: '0.6' });
  const named: Record<string, string> = {
    ...{ COMPOSE_HASH: h('1'), OS_IMAGE_HASH: h('2'), MR_AGGREGATED: h('3'), DEVICE_ID: h('4') },
    ...{ APP_ID: chain.app, GUARDIAN: `0x${'9'.repeat(40)}`, KMS_CONTRACT_ADDRESS: kms },
  };
  // The delay that one of them sets would hold for the tests after this one.
  const env = { KMS_CONTRACT_ADDRESS: (await deployKms({ client: chain.owner })).kms };
  for (const command of commands) {
    const words = command.replace(/\$(\w+)/g, (_, name: string) => named[name]!).split(' ');
    expect({ command, ...(await run(words.slice(2), { env })) }).toMatchObject({ code: 0, error: '' });
  }
}, 60_000);

describe('refusals', () => {
  const refusals: [string, string[], Record<string, string | undefined>, RegExp, number][] = [
    ['no key', ['kms:pause'], { PRIVATE_KEY: '' }, /There is no default key/, 1],
    [
      'a key that is none',
      ['kms:pause'],
      { PRIVATE_KEY: '0x12' },
      /PRIVATE_KEY has no private key of 64 hex digits/,
      1,
    ],
    ['no contract', ['kms:pause'], { KMS_CONTRACT_ADDRESS: undefined }, /Set KMS_CONTRACT_ADDRESS/, 1],
    [
      'two contracts',
      ['kms:pause'],
      { KMS_CONTRACT_ADDR: `0x${'1'.repeat(40)}` },
      /name different contracts/,
      1,
    ],
    ['an unknown task', ['kms:nosuch'], {}, /no task kms:nosuch/, 2],
    ['an inherited name', ['constructor'], {}, /no task constructor/, 2],
    ['an unknown option', ['kms:pause', '--nosuch'], {}, /has no option --nosuch/, 2],
    ['a missing value', ['kms:add'], {}, /kms:add needs <mr>/, 2],
    ['a value too many', ['kms:add', h('1'), h('2')], {}, /does not take/, 2],
    ['an option twice', ['info:app', '--app-id', '0x12', '--app-id', '0x13'], {}, /given twice/, 2],
    ['a short hash', ['kms:add', '0x12'], {}, /must have 64 hex digits/, 1],
    ['zero', ['kms:add', h('0'), '--allow-debug'], {}, /is zero/, 1],
    [
      'the device id of nothing',
      ['kms:add-device', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
      {},
      /SHA-256 of nothing/,
      1,
    ],
    [
      'a debug enclave',
      ['kms:add-image', '81c611f35bff79491538b2f7cf201c7597a661a5c549633541c62bdc8af1613f'],
      {},
      /debug mode/,
      1,
    ],
    ['a URL that is none', ['info:owner'], { RPC_URL: 'secret-key' }, /is no URL/, 1],
    ['no end for an end', ['kms:add-image', h('1'), '--until', '0'], {}, /until is a time/, 2],
    [
      'an end in milliseconds',
      ['kms:add-image', h('1'), '--until', '1893456000000'],
      {},
      /until is a time/,
      2,
    ],
    [
      'a grace period that is no number',
      ['app:replace-hash', h('1'), h('2'), '--app-id', `0x${'1'.repeat(40)}`, '--grace', '0x10'],
      {},
      /grace is a number of seconds/,
      2,
    ],
    [
      'a mistyped address',
      ['info:registered', '0x75537828f2ce51be7289709686A69CbFDbB714F2'],
      {},
      /wrong checksum/,
      1,
    ],
    ['the chain in the process', ['--network', 'hardhat', 'info:owner'], {}, /start anvil/, 1],
    ['an unknown network', ['--network', 'nosuch', 'info:owner'], {}, /Known are test, custom/, 1],
    [
      'a network without its variable',
      ['--network', 'custom', 'info:owner'],
      { RPC_URL: undefined },
      /needs the environment variable RPC_URL/,
      1,
    ],
    [
      'a chain that does not answer',
      ['info:owner'],
      { RPC_URL: 'http://127.0.0.1:1/secret-key' },
      /127\.0\.0\.1:1 does not answer/,
      1,
    ],
    [
      'a contract that is none',
      ['info:owner'],
      { KMS_CONTRACT_ADDRESS: `0x${'1'.repeat(40)}` },
      /is refused/,
      1,
    ],
    ['a Safe for a deployment', ['kms:deploy', '--safe', `0x${'1'.repeat(40)}`], {}, /only an account/, 2],
  ];
  test.each(refusals)('%s', async (_, words, env, message, code) => {
    const outcome = await run(words, { env });
    expect(outcome.error).toMatch(message);
    expect(outcome.error).not.toContain('secret-key');
    expect(outcome.code).toBe(code);
  });

  test.each([
    ['kms:add-image', h('1')],
    ['kms:deploy'],
    ['kms:create-app'],
    ['kms:upgrade', '--address', `0x${'1'.repeat(40)}`],
    ['info:kms'],
    ['info:app', '--app-id', `0x${'1'.repeat(40)}`],
    ['kms:add-image', h('1'), '--timelock', `0x${'1'.repeat(40)}`],
  ])('%s on an endpoint that fails, whose URL is not shown', async (...words) => {
    const endpoint = await startEndpoint(() => undefined);
    const outcome = await run(words, { env: { RPC_URL: endpoint.url } });
    await endpoint.stop();
    expect(outcome).toMatchObject({ code: 1, error: expect.stringContaining('HTTP request failed') });
    expect(JSON.stringify(outcome)).not.toContain('secret-key');
  });

  test('the reason of a foreign contract neither begins a line nor turns one around', async () => {
    const data = encodeErrorResult({
      abi: parseAbi(['error Error(string)']),
      args: ['no\nImage added successfully\u202e'],
    });
    const error = { code: 3, message: 'execution reverted', data };
    const endpoint = await startEndpoint((request) => ({ ...request, error }));
    const outcome = await run(['kms:pause'], { env: { RPC_URL: endpoint.url } });
    await endpoint.stop();
    expect(outcome.error).toBe('Error: pause is refused: no\n  | Image added successfully\\u{202e}\n');
  });

  test('an app without an answer is not one of an older version', async () => {
    const endpoint = await startEndpoint(async (request) => {
      const { params } = request as { params?: [{ data?: string }] };
      // blockedApps(address)
      if (params?.[0]?.data?.startsWith(encodeFunctionData(blocked).slice(0, 10))) return undefined;
      return await (await fetch(chain.anvil.rpcUrl, post(request))).json();
    });
    const outcome = await run(['info:app', '--app-id', chain.app], { env: { RPC_URL: endpoint.url } });
    await endpoint.stop();
    expect(outcome).toMatchObject({
      code: 1,
      error: expect.stringMatching(/blockedApps of \S+ cannot be asked/),
    });
    expect(outcome.out).not.toContain('not in this version');
  });
  const blocked = { abi: dstackKmsAbi, functionName: 'blockedApps', args: [zeroAddress] } as const;

  const nothing = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

  test('what nobody should allow can be looked up and taken away', async () => {
    for (const hash of [nothing, h('0')]) {
      for (const task of ['kms:remove', 'kms:remove-device', 'kms:remove-image']) {
        expect(await run([task, hash])).toMatchObject({ code: 0, error: '' });
      }
      for (const task of ['app:remove-hash', 'app:remove-device']) {
        expect(await run([task, hash, '--app-id', chain.app])).toMatchObject({ code: 0, error: '' });
      }
      expect((await run(['info:device', hash])).out).toBe('KMS device allowed: false\n');
    }
  });

  test('debug measurements with --allow-debug, and errors as JSON', async () => {
    expect((await run(['kms:add-device', nothing, '--allow-debug', '--dry-run'])).code).toBe(0);
    const { out, error } = await run(['kms:add', '12', '--json']);
    expect(JSON.parse(out)).toMatchObject({ error: { code: 'bad-argument' } });
    expect(error).toBe('');
  });

  test('a stranger hears who may do it, before anything is sent', async () => {
    const env = { PRIVATE_KEY: chain.anvil.accounts[1]!.privateKey };
    expect((await run(['kms:add', h('1')], { env })).error).toContain('caller is not the owner');
    expect((await run(['kms:pause'], { env })).error).toContain('neither the owner nor a guardian');
  });
});

test('the list of summaries is that of the tasks', () => {
  const listed = Object.entries(tasks).map(([name, { summary }]) => [name, summary]);
  expect(Object.entries(taskSummaries)).toEqual(listed);
});

test('help', async () => {
  expect((await run(['help'])).out).toContain('kms:add-image');
  expect((await run(['app:replace-hash', '--help'])).out).toMatch(
    /npx hardhat app:replace-hash <old-hash> <new-hash>/,
  );
});
