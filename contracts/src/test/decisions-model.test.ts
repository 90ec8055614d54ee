/** Every combination of what decides, on a real chain, against a model of the decisions in TypeScript. */
import { type Abi, type Address, decodeFunctionResult, encodeFunctionData, type Hex } from 'viem';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dstackAppAbi } from '../abi/dstack-app.ts';
import { dstackKmsAbi } from '../abi/dstack-kms.ts';
import { deployApp } from '../deploy.ts';
import { transact } from '../transact.ts';
import { type BootInfo, repeated, startTestChain, type TestChain, vectorBootInfo } from './test-chain.ts';

const AT_ONCE = 400;
const word = (byte: string): Hex => repeated(byte, 32);
/** Allowed, allowed until a time that is over, never allowed. */
const [GOOD, OVER, NEVER] = [word('a1'), word('a2'), word('a3')];
const DEVICES = [word('d1'), word('d2'), word('d3')] as const;
const MRS = [word('e1'), word('e2')] as const;
const DENIED = 'INTEL-SA-1';
const NOBODY: Address = repeated('12', 20);
const STRANGER: Address = repeated('34', 20);

type App = {
  readonly registered: boolean;
  readonly blocked?: boolean;
  readonly over?: boolean;
  readonly hasCode: boolean;
  readonly anyDevice?: boolean;
  readonly requireTcb?: boolean;
};

let chain: TestChain;
const apps = new Map<Address, App>();
beforeAll(async () => {
  chain = await startTestChain();
  const { owner, kms } = chain;
  const write = (to: Address, abi: unknown, name: string, ...args: unknown[]) =>
    transact(owner, to, abi as Abi, name, args);
  const onKms = (name: string, ...args: unknown[]) => write(kms, dstackKmsAbi, name, ...args);
  const { timestamp } = await owner.public.getBlock();
  const end = timestamp + 500n;
  for (const [kind, flags] of [
    ['plain', {}],
    ['any device, TCB', { anyDevice: true, requireTcb: true }],
    ['blocked', { blocked: true }],
    ['over', { over: true }],
  ] as const) {
    const { appId } = await deployApp({ client: owner, kms, composeHash: GOOD, deviceId: DEVICES[0] });
    const onApp = (name: string, ...args: unknown[]) => write(appId, dstackAppAbi, name, ...args);
    await onApp('addComposeHashUntil', OVER, end);
    if (kind === 'any device, TCB') {
      await onApp('setAllowAnyDevice', true);
      await onApp('setRequireTcbUpToDate', true);
    }
    if (kind === 'blocked') await onKms('blockApp', appId);
    if (kind === 'over') await onKms('setAppPolicyExpiry', appId, end);
    apps.set(appId, { registered: true, hasCode: true, ...flags });
  }
  await onKms('registerApp', NOBODY);
  apps.set(NOBODY, { registered: true, hasCode: false });
  apps.set(STRANGER, { registered: false, hasCode: false });
  await onKms('addOsImageHash', GOOD);
  await onKms('addOsImageHashUntil', OVER, end);
  await onKms('addKmsAggregatedMr', MRS[0]);
  await onKms('addKmsDevice', DEVICES[1]);
  await onKms('denyAdvisory', DENIED);
  await rpc([{ method: 'evm_increaseTime', params: [1_000] }]);
  await rpc([{ method: 'evm_mine', params: [] }]);
}, 180_000);
afterAll(() => chain?.anvil.stop());

async function rpc(calls: readonly { method: string; params: unknown[] }[]): Promise<unknown[]> {
  const body = JSON.stringify(calls.map((one, id) => ({ jsonrpc: '2.0', id, ...one })));
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(chain.anvil.rpcUrl, { method: 'POST', headers, body });
  const answers = (await answer.json()) as { id: number; result: unknown }[];
  return answers.toSorted((a, b) => a.id - b.id).map(({ result }) => result);
}

/** The first reason that holds; empty when it is allowed. */
const first = (...reasons: readonly (readonly [holds: boolean, reason: string])[]): string =>
  reasons.find(([holds]) => holds)?.[1] ?? '';
function kmsModel(b: BootInfo, paused: boolean): string {
  return first(
    [paused, 'KMS contract is paused'],
    [b.advisoryIds.includes(DENIED), 'Advisory is denied'],
    [b.tcbStatus !== 'UpToDate', 'TCB status is not up to date'],
    [b.osImageHash === NEVER, 'OS image is not allowed'],
    [b.osImageHash === OVER, 'OS image authorization expired'],
    [b.mrAggregated !== MRS[0], 'Aggregated MR not allowed'],
    [b.deviceId !== DEVICES[1], 'KMS is not allowed to boot on this device'],
  );
}
function appModel(b: BootInfo, paused: boolean): string {
  const app = apps.get(b.appId)!;
  return first(
    [paused, 'KMS contract is paused'],
    [b.advisoryIds.includes(DENIED), 'Advisory is denied'],
    [!app.registered, 'App not registered'],
    [app.blocked === true, 'App is blocked'],
    [app.over === true, 'App authorization expired'],
    [b.osImageHash === NEVER, 'OS image is not allowed'],
    [b.osImageHash === OVER, 'OS image authorization expired'],
    [!app.hasCode, 'App not deployed or invalid address'],
    [app.requireTcb === true && b.tcbStatus !== 'UpToDate', 'TCB status is not up to date'],
    [b.composeHash === NEVER, 'Compose hash not allowed'],
    [b.composeHash === OVER, 'Compose hash expired'],
    [app.anyDevice !== true && b.deviceId !== DEVICES[0], 'Device not allowed'],
  );
}

function* combinations(): Generator<BootInfo> {
  for (const appId of apps.keys())
    for (const composeHash of [GOOD, OVER, NEVER])
      for (const osImageHash of [GOOD, OVER, NEVER])
        for (const deviceId of DEVICES)
          for (const mrAggregated of MRS)
            for (const tcbStatus of ['UpToDate', 'OutOfDate', '', 'uptodate'])
              for (const advisoryIds of [[], ['INTEL-SA-2'], [DENIED], ['INTEL-SA-2', DENIED]])
                yield {
                  ...vectorBootInfo,
                  ...{ appId, composeHash, osImageHash, deviceId, mrAggregated, tcbStatus, advisoryIds },
                };
}

/** Asks both decisions about each. @returns how many were allowed */
async function compare(infos: readonly BootInfo[], paused: boolean): Promise<number> {
  let allowed = 0;
  const questions = infos.flatMap((info) =>
    (['isKmsAllowed', 'isAppAllowed'] as const).map((functionName) => ({ functionName, info })),
  );
  for (let start = 0; start < questions.length; start += AT_ONCE) {
    const some = questions.slice(start, start + AT_ONCE);
    const results = await rpc(
      some.map(({ functionName, info }) => {
        const data = encodeFunctionData({ abi: dstackKmsAbi, functionName, args: [info] });
        return { method: 'eth_call', params: [{ to: chain.kms, data }, 'latest'] };
      }),
    );
    for (const [index, { functionName, info }] of some.entries()) {
      const [isAllowed, reason] = decodeFunctionResult({
        ...{ abi: dstackKmsAbi, functionName, data: results[index] as Hex },
      });
      const expected = functionName === 'isKmsAllowed' ? kmsModel(info, paused) : appModel(info, paused);
      if (isAllowed) allowed += 1;
      if (reason !== expected || isAllowed !== (expected === ''))
        expect({ functionName, info, isAllowed, reason }).toEqual({ expected });
    }
  }
  return allowed;
}

test('ten thousand decisions are those of the model', async () => {
  const all = [...combinations()];
  expect(2 * all.length).toBeGreaterThan(10_000);
  // The KMS: 6 apps, 3 compose hashes, 2 lists of advisories. The plain app: 2 MRs, 4 TCBs, 2 lists; the other one: 3
  // devices, 2 MRs, 2 lists.
  expect(await compare(all, false)).toBe(36 + 16 + 12);
}, 300_000);

test('while it is paused nothing is allowed', async () => {
  await transact(chain.owner, chain.kms, dstackKmsAbi as Abi, 'pause', []);
  const some = [...combinations()].filter((_, index) => index % 17 === 0);
  expect(await compare(some, true)).toBe(0);
}, 120_000);
