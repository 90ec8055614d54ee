import { type Abi, type Address, encodeDeployData, getContractAddress, type Hex, isAddressEqual } from 'viem';
import { type ContractName, loadArtifact } from '../artifact.ts';
import { ContractsError } from '../errors.ts';
import type { TaskRun } from './task.ts';

/** A contract of this repository. */
export async function deployContract(
  run: Pick<TaskRun, 'chain' | 'terminal' | 'sender'>,
  name: ContractName,
  args: readonly unknown[] = [],
): Promise<{ address: Address; transactionHash: Hex }> {
  return await deployCode(run, loadArtifact(name), args);
}

/**
 * Deploys a contract and waits for its receipt. The address follows from what the account signs (account and nonce): proxies
 * are made for it and policies named by it, so it is not the endpoint that says it.
 *
 * @param announce gets the address before anything is sent, so that whoever is killed meanwhile finds the contract again
 */
export async function deployCode(
  { chain, terminal, sender }: Pick<TaskRun, 'chain' | 'terminal' | 'sender'>,
  { abi, bytecode }: { abi: Abi; bytecode: Hex },
  args: readonly unknown[] = [],
  announce: (address: Address) => Promise<void> = async () => undefined,
): Promise<{ address: Address; transactionHash: Hex }> {
  const { account } = await chain.signer();
  const addressOf = (nonce: number): Address =>
    getContractAddress({ from: account.address, nonce: BigInt(nonce) });
  const { receipt, nonce } = await sender.send(
    { data: encodeDeployData({ abi, bytecode, args: [...args] }) },
    {
      announce: (signed) => announce(addressOf(signed.nonce)),
      sent: (hash) => terminal.print(`Waiting for transaction ${hash} to be confirmed...`),
    },
  );
  const { contractAddress, transactionHash: hash } = receipt;
  const address = addressOf(nonce);
  if (!contractAddress) {
    throw new ContractsError('transaction-reverted', `Transaction ${hash} created no contract`);
  }
  if (!isAddressEqual(contractAddress, address)) {
    throw new ContractsError(
      'event-missing',
      `Transaction ${hash} must create ${address}, but the endpoint says ${contractAddress}: do not use it`,
    );
  }
  return { address, transactionHash: hash };
}
