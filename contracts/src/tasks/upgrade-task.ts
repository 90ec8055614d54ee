import { type Abi, type Address, getContractAddress } from 'viem';
import { dstackKmsAbi } from '../abi/dstack-kms.ts';
import { ContractsError } from '../errors.ts';
import { deployContract } from './deploy-contract.ts';
import { nameOwner } from './name-owner.ts';
import type { RunTask, TaskCall, TaskRun } from './task.ts';
import { simulate, unsignedOf } from './wrap-call.ts';

const IMPLEMENTATION_SLOT = '0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc';
const abi = dstackKmsAbi as Abi;

/** Replaces the code behind a proxy, after everything that can be checked was checked. */
export function upgradeTask(name: 'DstackKms' | 'DstackApp'): RunTask {
  return {
    summary: `replace the code of a ${name} proxy`,
    arguments: [
      { name: 'address', kind: 'address', summary: 'the proxy' },
      {
        ...{ name: 'implementation', kind: 'address', optional: true },
        summary: 'code that is deployed already (default: deploy it)',
      },
    ],
    async run(run) {
      const { chain, terminal, values, dryRun } = run;
      const proxy = values['address'] as Address;
      const before = await implementationOf(run, proxy);
      if (name === 'DstackApp') await refuseOldLayout(run, proxy);
      // With the code that it has already, before other code is paid for.
      await simulate(chain, upgradeCall(proxy, before), await run.caller()).catch(async (error: unknown) => {
        throw await nameOwner(chain, proxy, error);
      });
      const given = values['implementation'] as Address | undefined;
      if (given !== undefined) await requireUups(run, given);
      if (dryRun && given === undefined) {
        // Deploys nothing: the address is that which the account's next contract will have.
        const { account } = await chain.signer();
        const nonce = BigInt(await chain.public.getTransactionCount({ address: account.address }));
        const next = getContractAddress({ from: account.address, nonce });
        terminal.print(`Upgrade transaction data: ${unsignedOf(upgradeCall(proxy, next)).data}`);
        terminal.note(`For code that is deployed to ${next} first; not simulated. Nothing was sent.`);
        return { sent: false, data: unsignedOf(upgradeCall(proxy, next)).data, implementation: next, before };
      }
      if (!dryRun && !(await terminal.confirm(`Do you want to upgrade ${proxy}? (y/N)`))) {
        throw new ContractsError('refused', 'The upgrade was not confirmed; nothing was changed');
      }
      const implementation = given ?? (await deployContract(run, name)).address;
      if (dryRun)
        terminal.print(`Upgrade transaction data: ${unsignedOf(upgradeCall(proxy, implementation)).data}`);
      const submitted = await run.submit(upgradeCall(proxy, implementation));
      if (!submitted.sent) return { ...submitted, implementation, before };
      const after = await implementationOf(run, proxy);
      if (after.toLowerCase() !== implementation.toLowerCase()) {
        throw new ContractsError(
          'event-missing',
          `${proxy} has implementation ${after}, not ${implementation}`,
        );
      }
      terminal.print(`${name} proxy upgraded: implementation ${before} -> ${implementation}`);
      return { ...submitted, implementation, before };
    },
  };
}

function upgradeCall(proxy: Address, implementation: Address): TaskCall {
  return { to: proxy, abi, functionName: 'upgradeToAndCall', args: [implementation, '0x'] };
}

/** The code behind a proxy. @throws ContractsError `refused` when it is none */
export async function implementationOf({ chain }: Pick<TaskRun, 'chain'>, proxy: Address): Promise<Address> {
  const word = await chain.public.getStorageAt({ address: proxy, slot: IMPLEMENTATION_SLOT });
  if (word === undefined || /^0x0*$/.test(word)) {
    throw new ContractsError('refused', `${proxy} is no proxy: it has no implementation`);
  }
  return `0x${word.slice(-40)}`;
}

/**
 * The base slot of a mapping is always zero. Contracts before the 0.6 line keep the app id there, and every variable one
 * slot later: an upgrade would read one as another.
 */
export async function refuseOldLayout({ chain }: Pick<TaskRun, 'chain'>, proxy: Address): Promise<void> {
  const word = await chain.public.getStorageAt({ address: proxy, slot: '0x0' });
  if (word === undefined || /^0x0*$/.test(word)) return;
  throw new ContractsError(
    'refused',
    `${proxy} has the storage of a contract from before 0.6 (slot 0 is ${word}): an upgrade would corrupt it. Create a new app contract`,
  );
}

/** Code that a UUPS proxy can be given. @throws ContractsError `refused` */
export async function requireUups({ chain }: Pick<TaskRun, 'chain'>, implementation: Address): Promise<void> {
  const slot = await chain.public
    .readContract({ address: implementation, abi, functionName: 'proxiableUUID' })
    .catch(() => undefined);
  if (slot !== IMPLEMENTATION_SLOT) {
    throw new ContractsError('refused', `${implementation} is no UUPS implementation`);
  }
}
