/** Model C on a real chain, and a real key service that follows it. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Anvil, connectChain, deployApp, dstackKmsAbi, startAnvil } from '@dstack-cloud/contracts';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { type Address, createPublicClient, type Hex, http } from 'viem';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { errorOf } from '../harness/call-kms.ts';
import { measurementsOf } from '../harness/kms-chain.ts';
import { getAppKey, type KmsLab, labWorkload, startKmsLab } from '../harness/kms-lab.ts';
import type { KmsProcess } from '../harness/kms-process.ts';
import { repository, runCommand } from '../harness/run-command.ts';
import { bootOf, type Workload } from '../harness/simulated-workload.ts';

const DELAY_S = 3_600;
/** The image of the key service's own machine, and the one that is proposed later. */
const APP_IMAGE = 'dstack-sim-0.6.1';
const [DEPLOYER, A, B, C, NEW, GUARDIAN, STRANGER] = [0, 1, 2, 3, 4, 5, 6] as const;

let lab: KmsLab;
let anvil: Anvil;
let directory: string;
let kms: KmsProcess;

beforeAll(async () => {
  lab = await startKmsLab();
  directory = join(lab.directory, 'governance');
  mkdirSync(directory);
  // In the past, so that hours can pass without the chain running ahead of the key service's clock.
  const timestamp = Math.floor(Date.now() / 1000) - 20 * DELAY_S;
  anvil = await startAnvil({ cwd: lab.directory, timestamp });
}, 240_000);
afterAll(async () => {
  await kms?.stop();
  await anvil?.stop();
  await lab?.stop();
});

const account = (index: number): Address => anvil.accounts[index]!.address;

type Answer = { readonly file: string; readonly operation: string; readonly [name: string]: unknown };

async function command(
  index: number,
  ...argv: string[]
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return await runCommand(
    [process.execPath, join(repository, 'dist/bin/dstack-cloud.js'), ...argv, '--json', '--yes'],
    {
      cwd: directory,
      env: {
        ...{ HOME: directory, XDG_DATA_HOME: join(directory, 'data'), RPC_URL: anvil.rpcUrl },
        PRIVATE_KEY: anvil.accounts[index]!.privateKey,
      },
      timeoutMs: 120_000,
    },
  );
}
async function gov(index: number, ...argv: string[]): Promise<Answer> {
  const { code, stdout, stderr } = await command(index, 'gov', ...argv);
  expect(code, `${argv.join(' ')}\n${stdout}\n${stderr}`).toBe(0);
  return JSON.parse(stdout);
}
async function refused(index: number, ...argv: string[]): Promise<string> {
  const { code, stdout, stderr } = await command(index, 'gov', ...argv);
  expect(code, stdout).not.toBe(0);
  return stderr;
}
/** Proposed by A, signed by one more, sent by a stranger. */
async function agreed(proposed: Answer, other: number = B): Promise<Answer> {
  await gov(other, 'approve', proposed.file);
  return await gov(STRANGER, 'submit', proposed.file);
}
async function executed(proposed: Answer, other: number = B): Promise<void> {
  await agreed(proposed, other);
  await pass(DELAY_S);
  await agreed(await gov(A, 'execute', proposed.operation), other);
}
async function pass(seconds: number): Promise<void> {
  const client = createPublicClient({ transport: http(anvil.rpcUrl) });
  const request = client.request as (one: object) => Promise<unknown>;
  await request({ method: 'evm_increaseTime', params: [seconds] });
  await request({ method: 'evm_mine', params: [] });
}

describe('governance', () => {
  test('governance-safe-timelock: keys follow what two of three signers scheduled, and stop when a guardian says so', async () => {
    const signers = [A, B, C].flatMap((one) => ['--signer', account(one)]);
    const plan = ['--model', 'C', ...signers, '--threshold', '2', '--delay', String(DELAY_S)];
    const deployed = await gov(DEPLOYER, 'deploy', ...plan, '--guardian', account(GUARDIAN));
    const contract = deployed['kms'] as Address;
    const client = await connectChain({
      rpcUrl: anvil.rpcUrl,
      privateKey: anvil.accounts[STRANGER]!.privateKey,
    });

    // The key service's own machine, in one batch.
    const chain = { rpc_urls: [anvil.rpcUrl], kms_contract: contract, chain_id: anvil.chainId };
    const policy = { type: 'chain', chain: { ...chain, head_reuse_ms: 0, max_block_age: '100h' } };
    const host = await lab.host('governed', { core: { auth_api: policy } });
    const own = await measurementsOf(lab, host);
    const hex = (bytes: Uint8Array): string => `0x${toHex(bytes)}`;
    const kmsActions = ['kms:add-image', hex(own.osImageHash), '+', 'kms:add', hex(own.mrAggregated)];
    await executed(await gov(A, 'propose', ...kmsActions, '+', 'kms:add-device', hex(own.deviceId)));
    kms = await host.serve();

    // An app whose OS image nobody has allowed yet.
    const workload = labWorkload('governed', { image: APP_IMAGE });
    const composeHash = `0x${toHex(workload.composeHash)}` as const;
    const { appId } = await deployApp({ client, kms: contract, allowAnyDevice: true, composeHash });
    const app: Workload = { ...workload, appId: fromHex(appId.slice(2).toLowerCase()) };
    const identity = await lab.identity(kms, app);
    const image = hex(bootOf(APP_IMAGE).osImageHash);
    expect(errorOf(await getAppKey(kms, identity))).toContain('OS image is not allowed');

    const proposed = await gov(A, 'propose', 'kms:add-image', image);
    expect(proposed['effect']).toEqual([`allow OS image ${image}, on DstackKms`]);
    expect(await refused(A, 'submit', proposed.file)).toContain('1 of 2 signatures are there');
    await agreed(proposed);
    expect(await refused(A, 'execute', proposed.operation)).toContain('is not over');
    expect(errorOf(await getAppKey(kms, identity))).toContain('OS image is not allowed');
    await pass(DELAY_S);
    await agreed(await gov(A, 'execute', proposed.operation));
    expect((await getAppKey(kms, identity)).status).toBe(200);

    // A guardian needs nobody, and the next request is refused.
    await gov(GUARDIAN, 'emergency-revoke', 'image', image);
    expect(errorOf(await getAppKey(kms, identity))).toContain('OS image is not allowed');

    // What was scheduled is cancelled before it takes effect.
    const unwanted = await gov(A, 'propose', 'kms:add-image', image);
    await agreed(unwanted);
    await agreed(await gov(A, 'cancel', unwanted.operation));
    await pass(DELAY_S);
    expect(await refused(A, 'execute', unwanted.operation)).toContain('was cancelled');
    expect(errorOf(await getAppKey(kms, identity))).toContain('OS image is not allowed');

    // New code, old state.
    const allowed = {
      app: appId as Address,
      images: [hex(own.osImageHash) as Hex, image as Hex],
      measurement: hex(own.mrAggregated) as Hex,
      device: hex(own.deviceId) as Hex,
    };
    const before = await stateOf(client, contract, allowed);
    expect(before).toMatchObject({ isApp: true, images: [true, false], isMeasurement: true, isDevice: true });
    const code = await command(STRANGER, 'kms', 'deploy-impl', '--network', 'test');
    const { implementation } = JSON.parse(code.stdout) as { implementation: Address };
    await executed(await gov(A, 'propose', 'kms:upgrade', implementation));
    const after = await stateOf(client, contract, allowed);
    expect(after).toEqual({ ...before, implementation });
    expect(before.implementation).not.toBe(implementation);

    // C has lost its key.
    await agreed(await gov(A, 'propose', 'signer:swap', account(C), account(NEW)));
    const renewed = await gov(A, 'propose', 'kms:add-image', image);
    expect(await refused(C, 'approve', renewed.file)).toContain('does not sign for Safe');
    await executed(renewed, NEW);
    expect((await getAppKey(kms, identity)).status).toBe(200);
  }, 600_000);
});

type Allowed = {
  readonly app: Address;
  readonly images: readonly Hex[];
  readonly measurement: Hex;
  readonly device: Hex;
};

async function stateOf(
  { public: reader }: Awaited<ReturnType<typeof connectChain>>,
  address: Address,
  { app, images, measurement, device }: Allowed,
) {
  const read = { address, abi: dstackKmsAbi } as const;
  const [owner, implementation, appImplementation, isGuardian, gateway] = await Promise.all([
    reader.readContract({ ...read, functionName: 'owner' }),
    reader.readContract({ ...read, functionName: 'implementation' }),
    reader.readContract({ ...read, functionName: 'appImplementation' }),
    reader.readContract({ ...read, functionName: 'isGuardian', args: [account(GUARDIAN)] }),
    reader.readContract({ ...read, functionName: 'gatewayAppId' }),
  ]);
  return {
    ...{ owner, implementation, appImplementation, isGuardian, gateway },
    isApp: await reader.readContract({ ...read, functionName: 'registeredApps', args: [app] }),
    images: await Promise.all(
      images.map((hash) => reader.readContract({ ...read, functionName: 'allowedOsImages', args: [hash] })),
    ),
    isMeasurement: await reader.readContract({
      ...read,
      functionName: 'kmsAllowedAggregatedMrs',
      args: [measurement],
    }),
    isDevice: await reader.readContract({ ...read, functionName: 'kmsAllowedDeviceIds', args: [device] }),
  };
}
