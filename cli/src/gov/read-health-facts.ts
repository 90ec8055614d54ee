import { dstackAppAbi, dstackKmsAbi } from '@dstack-cloud/contracts';
import {
  type Governance,
  type HealthFacts,
  ifPresent,
  isKnownSingleton,
  readLogs,
  safeProxyCodeHash,
} from '@dstack-cloud/governance';
import { type Address, getAbiItem, keccak256, type PublicClient, zeroAddress } from 'viem';
import { CodeNames } from './code-names.ts';
import type { GovSession, GovView } from './connect-gov.ts';

/** Chains without real value: testnets that the documentation names, and local ones. */
const TEST_CHAINS = [31_337, 1_337, 84_532, 11_155_111];
/** Some revocations at ordinary prices. */
const MIN_BALANCE = 10n ** 15n;

/** Reads what the health check needs beside the governance itself, at the same block. */
export async function readHealthFacts(
  { client, file, fromBlock }: GovSession,
  { governance }: GovView,
  requireTimelock: number | undefined,
): Promise<HealthFacts> {
  const at = governance.block.number;
  const knownCode = new Map<string, string>();
  const names = new CodeNames(client, at);
  const name = async (address: Address): Promise<string> => {
    const { hash, name: release } = await names.of(address);
    if (release !== undefined) knownCode.set(hash, release);
    return hash;
  };
  for (const { implementation } of [governance.kms, ...governance.apps]) await name(implementation);
  const { appImplementation = zeroAddress } = governance.kms;
  const safeCode = new Map<string, boolean>();
  const balances = new Map<string, bigint>();
  const payers = new Set([governance.kms, ...governance.apps].flatMap(({ guardians }) => [...guardians]));
  for (const principal of governance.principals.values()) {
    if (principal.kind === 'safe') {
      const { address, singleton } = principal.safe;
      const [proxy, code] = await Promise.all(
        [address, singleton].map((one) => client.getCode({ address: one, blockNumber: at })),
      );
      const isProxy = keccak256(proxy ?? '0x') === safeProxyCodeHash;
      safeCode.set(address.toLowerCase(), isProxy && isKnownSingleton(keccak256(code ?? '0x')));
    }
    if (principal.kind === 'timelock') {
      for (const executor of principal.timelock.roles.executor) {
        if (governance.principals.get(executor.toLowerCase())?.kind === 'account') payers.add(executor);
      }
    }
  }
  for (const payer of payers) {
    balances.set(payer.toLowerCase(), await client.getBalance({ address: payer, blockNumber: at }));
  }
  return {
    ...{ governance, expected: file, knownCode, safeCode, balances, minBalance: MIN_BALANCE },
    ...(appImplementation !== zeroAddress && { appImplementationHash: await name(appImplementation) }),
    expiries: await readExpiries(
      client,
      governance.kms.address,
      governance.apps.map(({ address }) => address),
      fromBlock,
      at,
    ),
    liveComposeHashes: await readLiveHashes(
      client,
      governance.apps.map(({ address }) => address),
      fromBlock,
      at,
    ),
    requiredDelay: await requiredDelay(client, governance, requireTimelock),
    isProduction: !TEST_CHAINS.includes(governance.chainId),
  };
}

async function requiredDelay(
  client: PublicClient,
  { kms, apps, block }: Governance,
  requireTimelock: number | undefined,
): Promise<HealthFacts['requiredDelay']> {
  if (requireTimelock === undefined || requireTimelock === 0) return undefined;
  const seconds = BigInt(requireTimelock);
  const since = new Map<string, bigint>();
  for (const { address } of [kms, ...apps]) {
    const read = {
      address,
      abi: dstackKmsAbi,
      blockNumber: block.number,
      functionName: 'policyDelaySince',
    } as const;
    const held = await ifPresent(client.readContract({ ...read, args: [seconds] }));
    since.set(address.toLowerCase(), held ?? 0n);
  }
  return { seconds, since };
}

/** The last end that was set for each image, app and compose hash. */
async function readExpiries(
  client: PublicClient,
  kms: Address,
  apps: readonly Address[],
  fromBlock: bigint,
  toBlock: bigint,
): Promise<{ what: string; notAfter: bigint }[]> {
  const events = [
    getAbiItem({ abi: dstackKmsAbi, name: 'OsImageExpirySet' }),
    getAbiItem({ abi: dstackKmsAbi, name: 'AppPolicyExpirySet' }),
    getAbiItem({ abi: dstackAppAbi, name: 'ComposeHashExpirySet' }),
  ] as const;
  const logs = await readLogs(client, { address: [kms, ...apps], events, fromBlock, toBlock });
  const ends = new Map<string, bigint>();
  for (const { eventName, args } of logs) {
    const what =
      eventName === 'OsImageExpirySet'
        ? `OS image ${args.osImageHash}`
        : eventName === 'AppPolicyExpirySet'
          ? `App ${args.appId}`
          : `Compose hash ${args.composeHash}`;
    ends.set(what, args.notAfter);
  }
  return [...ends].map(([what, notAfter]) => ({ what, notAfter })).filter(({ notAfter }) => notAfter > 0n);
}

async function readLiveHashes(
  client: PublicClient,
  apps: readonly Address[],
  fromBlock: bigint,
  toBlock: bigint,
): Promise<Map<string, number>> {
  const live = new Map<string, number>();
  if (apps.length === 0) return live;
  const events = [getAbiItem({ abi: dstackAppAbi, name: 'ComposeHashAdded' })] as const;
  const logs = await readLogs(client, { address: [...apps], events, fromBlock, toBlock });
  const seen = new Set(logs.map(({ address, args }) => `${address.toLowerCase()} ${args.composeHash}`));
  for (const one of seen) {
    const [app, hash] = one.split(' ') as [Address, `0x${string}`];
    const read = {
      address: app,
      abi: dstackAppAbi,
      functionName: 'allowedComposeHashes',
      blockNumber: toBlock,
    } as const;
    if (await client.readContract({ ...read, args: [hash] })) live.set(app, (live.get(app) ?? 0) + 1);
  }
  return live;
}
