/** What the contracts would deny on every machine is refused before a machine is touched. */
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
import { type Abi, type Hex, keccak256, toHex } from 'viem';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { appPolicyHash } from '../project/app-policy-hash.ts';
import type { Prepared } from '../project/shared-files.ts';
import { checkPolicy } from './check-policy.ts';

const image = keccak256(toHex('image'));
const compose = keccak256(toHex('compose'));
/** Before the local chain began. */
const PAST = 1_000_000_000n;

let anvil: Anvil;
let client: ChainClient;
let kms: Hex;
let app: Hex;
beforeAll(async () => {
  await buildContracts();
  anvil = await startAnvil();
  const privateKey = anvil.accounts[0]!.privateKey;
  client = await connectChain({ rpcUrl: anvil.rpcUrl, privateKey, pollingIntervalMs: 10 });
}, 120_000);
afterAll(() => anvil?.stop());
beforeEach(() => domain());

async function domain(release?: '0.6'): Promise<void> {
  ({ kms } = await deployKms({ client, ...(release && { release }) }));
  // A device list without a device: which machine it will be is not known yet.
  app = (await deployApp({ client, kms, composeHash: compose })).appId;
  await onKms('addOsImageHash', image);
}

async function write(address: Hex, abi: Abi, functionName: string, args: readonly unknown[]): Promise<void> {
  const { wallet, account, chain } = client;
  const hash = await wallet.writeContract({ address, abi, functionName, args, account, chain });
  await client.public.waitForTransactionReceipt({ hash });
}
const onKms = (name: string, ...args: unknown[]) => write(kms, dstackKmsAbi as Abi, name, args);
const onApp = (name: string, ...args: unknown[]) => write(app, dstackAppAbi as Abi, name, args);

async function check(platform: 'gcp' | 'nitro' = 'gcp'): Promise<void> {
  const bare = (value: Hex): string => value.slice(2).toLowerCase();
  const hashes = { composeHash: bare(compose), osImageHash: bare(image) };
  const policyHash = appPolicyHash(platform === 'nitro', hashes);
  const prepared = { appId: bare(app), ...hashes, appPolicyHash: policyHash } as Prepared;
  await checkPolicy({ rpc_url: anvil.rpcUrl, kms_contract: kms, create_apps: false }, prepared);
}

it.each(['0.6', undefined] as const)(
  'lets pass what only the machine decides, in version %s',
  async (release) => {
    await domain(release);
    await check();
    if (release === undefined) await onApp('setRequireTcbUpToDate', true);
    await check();
    await onApp('removeComposeHash', compose);
    await expect(check()).rejects.toMatchObject({ code: 'compose_hash_not_allowed' });
  },
);

it.each<[string, () => Promise<void>]>([
  ['KMS contract is paused', () => onKms('pause')],
  ['App is blocked', () => onKms('blockApp', app)],
  ['App authorization expired', () => onKms('setAppPolicyExpiry', app, PAST)],
  ['OS image authorization expired', () => onKms('addOsImageHashUntil', image, PAST)],
  ['Compose hash expired', () => onApp('addComposeHashUntil', compose, PAST)],
])('refuses: %s', async (reason, change) => {
  await change();
  await expect(check()).rejects.toMatchObject({ code: 'refused', message: expect.stringContaining(reason) });
});

it('of a Nitro enclave, one hash has to be allowed as OS image and as compose hash', async () => {
  await expect(check('nitro')).rejects.toMatchObject({
    code: 'compose_hash_not_allowed',
    found: image.slice(2),
  });
  await onApp('addComposeHash', image);
  await onApp('removeComposeHash', compose);
  await check('nitro');
});
