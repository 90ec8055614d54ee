import { dstackKmsAbi, loadArtifact } from '@dstack-cloud/contracts';
import { addressValue, deployCode, implementationOf, type Sender } from '@dstack-cloud/contracts/tasks';
import {
  canonicalSafeContract,
  createSafe,
  GovernanceError,
  type GovernanceFile,
  isSafeContract,
  readGovernance,
  readSafe,
  type SafeContractName,
  safeArtifact,
} from '@dstack-cloud/governance';
import { type Abi, type Address, encodeFunctionData, type Hex, isAddressEqual, zeroAddress } from 'viem';
import { sendOnce } from '../chain/send-once.ts';
import type { Context } from '../context.ts';
import type { GovSession } from './connect-gov.ts';
import { sendCall } from './send-call.ts';

/** As long as for a receipt. */
const PENDING_WAIT_MS = 180_000;

type Deployment = {
  readonly state: GovernanceFile;
  /** Called before each step that leaves something on the chain, so that a killed deployment is continued. */
  readonly save: (state: GovernanceFile) => Promise<void>;
  /** A DstackKms that exists, and that the account owns. */
  readonly kms: string | undefined;
  readonly admin: Address;
  readonly grace: bigint;
};

/** Deploys what is missing, moves the ownership, and then looks whether all is as it was meant. */
export async function deployModel(
  given: Context,
  session: GovSession,
  { state: before, save, kms: existing, admin, grace }: Deployment,
): Promise<{ file: GovernanceFile; owner: Address; implementation: Address }> {
  // Confirmed once, for all steps.
  const context = { ...given, yes: true };
  const { client, chain } = session;
  const { account } = await chain.signer();
  let state = before;
  const change = async (changes: Partial<GovernanceFile>): Promise<void> => {
    state = { ...state, ...changes };
    await save(state);
  };
  const hasCode = async (address: Address | undefined): Promise<boolean> => {
    const code = address === undefined ? undefined : await client.getCode({ address });
    return code !== undefined && code !== '0x';
  };
  /** What an interrupted command has sent may still come to pass: it is waited for, and not paid for twice. */
  const isMade = async (address: Address): Promise<boolean> => {
    const end = performance.now() + PENDING_WAIT_MS;
    const count = (blockTag: 'latest' | 'pending'): Promise<number> =>
      client.getTransactionCount({ address: account.address, blockTag });
    while ((await count('pending')) > (await count('latest')) && performance.now() < end) {
      if (await hasCode(address)) return true;
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
    return await hasCode(address);
  };
  const terminal = { print: context.info, note: context.info, document: () => {}, confirm: async () => true };
  const sender: Sender = {
    sentBefore: async () => undefined,
    send: (sending, steps) => sendOnce(context, session, sending, steps),
  };
  const make = async (
    name: string,
    artifact: { abi: Abi; bytecode: Hex },
    args: readonly unknown[] = [],
  ): Promise<Address> => {
    const known = state.made[name];
    if (known !== undefined && (await isMade(known))) return known;
    context.info(`Deploying ${name}`);
    const announce = (address: Address): Promise<void> =>
      change({ made: { ...state.made, [name]: address } });
    return (await deployCode({ chain, terminal, sender }, artifact, args, announce)).address;
  };
  const send = async (
    to: Address,
    abi: Abi,
    functionName: string,
    args: readonly unknown[],
  ): Promise<void> => {
    const data = encodeFunctionData({ abi, functionName, args: [...args] });
    await sendCall(context, session, { to, value: 0n, data }, { what: functionName });
  };
  await change({});

  const kms = await findOrMakeKms();
  await change({ kms });
  const contracts = [kms, ...state.apps];
  const owners = await Promise.all(contracts.map(ownerOf));

  const safe = await findOrMakeSafe();
  const timelock = await findOrMakeTimelock();
  const owner = timelock ?? safe ?? state.owner ?? account.address;
  for (const [index, contract] of contracts.entries()) {
    const current = owners[index] as Address;
    if (isAddressEqual(current, owner)) continue;
    if (!isAddressEqual(current, account.address)) {
      throw new GovernanceError('not-allowed', `${contract} does not belong to the account that deploys`, {
        ...{ expected: account.address, found: current },
        hint: 'Use the key of its owner',
      });
    }
    for (const guardian of state.guardians) {
      const read = { address: contract, abi: dstackKmsAbi, functionName: 'isGuardian' } as const;
      if (await client.readContract({ ...read, args: [guardian] })) continue;
      context.info(`Naming guardian ${guardian} of ${contract}`);
      await send(contract, dstackKmsAbi as Abi, 'setGuardian', [guardian, true]);
    }
    context.info(`Giving ${contract} to ${owner}`);
    await send(contract, dstackKmsAbi as Abi, 'transferOwnership', [owner]);
  }
  await requireAsMeant();
  await change({ complete: true });
  return { file: state, owner, implementation: await implementationOf({ chain }, kms) };

  async function findOrMakeKms(): Promise<Address> {
    if (existing !== undefined) return addressValue('--kms', existing);
    const app = await make('DstackApp', loadArtifact('DstackApp'));
    const code = await make('DstackKms', loadArtifact('DstackKms'));
    const args = [account.address, app] as const;
    const setUp = encodeFunctionData({ abi: dstackKmsAbi, functionName: 'initialize', args });
    return await make('KmsProxy', loadArtifact('ERC1967Proxy'), [code, setUp]);
  }

  async function ownerOf(address: Address): Promise<Address> {
    return await client.readContract({ address, abi: dstackKmsAbi, functionName: 'owner' });
  }

  /** Safe's own deployment on this chain, or one of the same code that was made before, or a new one. */
  async function safeContract(name: SafeContractName): Promise<Address> {
    const canonical = await canonicalSafeContract(client, name);
    return canonical ?? (await make(name, safeArtifact(name)));
  }

  async function findOrMakeSafe(): Promise<Address | undefined> {
    const { signers, threshold, safe: known } = state;
    if (state.model !== 'C' && state.model !== 'multisig') return undefined;
    const multiSend = await safeContract('MultiSendCallOnly');
    if (!(await isSafeContract(client, 'MultiSendCallOnly', multiSend))) {
      throw new GovernanceError('chain-inconsistent', `${multiSend} is not MultiSendCallOnly of Safe 1.4.1`);
    }
    await change({ multiSend });
    if (known !== undefined && (await hasCode(known))) return known;
    if (signers === undefined || threshold === undefined) {
      throw new GovernanceError('not-found', `There is no contract at ${known}`);
    }
    const factory = await safeContract('SafeProxyFactory');
    const singleton = await safeContract('SafeL2');
    const fallbackHandler = await safeContract('CompatibilityFallbackHandler');
    const { bytecode: proxyCode } = safeArtifact('SafeProxy');
    for (let saltNonce = 0n; ; saltNonce += 1n) {
      const parts = { factory, singleton, fallbackHandler };
      const { call, address } = createSafe({ ...parts, owners: signers, threshold, saltNonce, proxyCode });
      // Somebody may have made one of the same signers.
      if (await hasCode(address)) continue;
      context.info(`Making Safe ${address}`);
      await change({ safe: address });
      await sendCall(context, session, call, { what: 'make the Safe' });
      return address;
    }
  }

  async function findOrMakeTimelock(): Promise<Address | undefined> {
    const { minDelay } = state;
    if (minDelay === undefined) return undefined;
    const proposer = state.proposer ?? safe ?? account.address;
    const executor = state.executor ?? proposer;
    await change({ proposer, executor });
    const args = [BigInt(minDelay), [proposer], [executor], admin, grace];
    const made = await make('DstackTimelock', loadArtifact('DstackTimelock'), args);
    await change({ timelock: made });
    return made;
  }

  async function requireAsMeant(): Promise<void> {
    const query = { kms, apps: state.apps, fromBlock: BigInt(state.fromBlock) };
    const governance = await readGovernance(client, query);
    const wrong = (what: string, expected: string, found: string): GovernanceError =>
      new GovernanceError('chain-inconsistent', `The deployment is not as it was meant: ${what}`, {
        ...{ expected, found, hint: 'Do not use these contracts' },
      });
    for (const contract of [governance.kms, ...governance.apps]) {
      if (!isAddressEqual(contract.owner, owner))
        throw wrong(`the owner of ${contract.address}`, owner, contract.owner);
    }
    if (safe !== undefined) {
      const found = await readSafe(client, safe, governance.block.number);
      const { signers = found.owners, threshold = found.threshold } = state;
      if ([...signers].sort().join() !== [...found.owners].sort().join() || threshold !== found.threshold) {
        throw wrong(
          'the signers of the Safe',
          `${threshold} of ${signers.join(', ')}`,
          `${found.threshold} of ${found.owners.join(', ')}`,
        );
      }
      if (found.modules.length > 0 || found.guard !== undefined) {
        throw wrong(
          'modules and guard of the Safe',
          'none',
          [...found.modules, found.guard ?? ''].join(', '),
        );
      }
    }
    const principal = timelock === undefined ? undefined : governance.principals.get(timelock.toLowerCase());
    if (timelock === undefined) return;
    if (principal?.kind !== 'timelock') throw wrong('the Timelock', timelock, principal?.kind ?? 'nothing');
    const { roles, minDelay } = principal.timelock;
    if (minDelay !== BigInt(state.minDelay ?? 0))
      throw wrong('the delay', String(state.minDelay), String(minDelay));
    const admins = [timelock, ...(admin === zeroAddress ? [] : [admin])];
    const meant = {
      proposer: [state.proposer],
      canceller: [state.proposer],
      executor: [state.executor],
      admin: admins,
    };
    for (const [role, holders] of Object.entries(meant)) {
      const found = roles[role as keyof typeof roles];
      if ([...found].sort().join() === [...holders].sort().join()) continue;
      throw wrong(`the ${role}s of the Timelock`, holders.join(', '), found.join(', '));
    }
  }
}
