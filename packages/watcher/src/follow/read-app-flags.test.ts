/** What apps of the 0.6 line were set up with, which no event tells, is known like that of ours. */
import {
  type Anvil,
  type ChainClient,
  deployApp,
  deployCode,
  deployKms,
  dstackAppAbi,
  dstackKmsAbi,
  loadRelease,
  transact,
} from '@dstack-cloud/contracts';
import type { Abi, Address, Hex } from 'viem';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkTable } from '../config/schema.ts';
import { observe } from '../observe.ts';
import { startChain } from '../test/real-chain.ts';

let anvil: Anvil;
let owner: ChainClient;
let kms: Address;
beforeAll(async () => {
  const chain = await startChain();
  anvil = chain.anvil;
  owner = await chain.client(0);
  kms = (await deployKms({ client: owner })).kms;
}, 180_000);
afterAll(async () => {
  await anvil?.stop();
});

test('flags that an initializer set, before and while it is watched, with either line', async () => {
  const { abi, bytecode } = loadRelease('0.6', 'DstackApp');
  const made: { readonly app: string; readonly any: boolean; readonly fixed: boolean }[] = [];
  const make = async (any: boolean, fixed: boolean): Promise<Address> => {
    const options = { client: owner, kms, allowAnyDevice: any, disableUpgrades: fixed };
    const { appId } = await deployApp(options);
    made.push({ app: appId.toLowerCase(), any, fixed });
    return appId;
  };
  const all: readonly [any: boolean, fixed: boolean][] = [
    [false, false],
    [false, true],
    [true, false],
    [true, true],
  ];
  for (const [any, fixed] of all) await make(any, fixed);
  const code = (await deployCode(owner, abi as Abi, bytecode as Hex)).address;
  await transact(owner, kms, dstackKmsAbi as Abi, 'setAppImplementation', [code]);
  for (const [any, fixed] of all) await make(any, fixed);
  const checked = checkTable({ rpc_urls: [anvil.rpcUrl], kms_contract: kms, poll_seconds: 0.1 });
  if ('issues' in checked) throw new Error(JSON.stringify(checked.issues));
  const observer = observe(checked.config);
  const shown = () =>
    [...observer.model.apps].map(([app, { allowAnyDevice, upgradesDisabled }]) => ({
      ...{ app, any: allowAnyDevice, fixed: upgradesDisabled },
    }));
  try {
    await expect.poll(() => observer.knownApps.size, { timeout: 60_000 }).toBe(8);
    expect(shown()).toEqual(made);
    // While it is watched; and what is changed later has an event in either line.
    await make(true, true);
    const changed = (await make(true, false)).toLowerCase();
    await transact(owner, changed as Address, dstackAppAbi as Abi, 'setAllowAnyDevice', [false]);
    await transact(owner, changed as Address, dstackAppAbi as Abi, 'disableUpgrades', []);
    Object.assign(made.at(-1)!, { any: false, fixed: true });
    await expect.poll(shown, { timeout: 60_000 }).toEqual(made);
  } finally {
    await observer.stop();
  }
}, 240_000);

test('an app that is a contract of somebody’s own has what it answers, and nothing is read into its storage', async () => {
  // Answers 1 to every call: PUSH1 1 PUSH1 0 MSTORE PUSH1 32 PUSH1 0 RETURN.
  const own = (await deployCode(owner, [], '0x600a600c600039600a6000f3600160005260206000f3')).address;
  await transact(owner, kms, dstackKmsAbi as Abi, 'registerApp', [own]);
  await (owner.public.request as (call: object) => Promise<unknown>)({
    method: 'anvil_setStorageAt',
    params: [own, `0x${'1'.padStart(64, '0')}`, `0x${'1'.padStart(64, '0')}`],
  });
  const checked = checkTable({ rpc_urls: [anvil.rpcUrl], kms_contract: kms, poll_seconds: 0.1 });
  if ('issues' in checked) throw new Error(JSON.stringify(checked.issues));
  const observer = observe(checked.config);
  try {
    await expect.poll(() => observer.knownApps.has(own.toLowerCase()), { timeout: 60_000 }).toBe(true);
    expect(observer.model.apps.get(own.toLowerCase())).toMatchObject({
      ...{ registered: true, allowAnyDevice: true, upgradesDisabled: false },
    });
  } finally {
    await observer.stop();
  }
}, 120_000);
