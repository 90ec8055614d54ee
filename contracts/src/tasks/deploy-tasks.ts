import { type Abi, type Address, encodeFunctionData, formatEther, zeroAddress, zeroHash } from 'viem';
import { dstackAppAbi } from '../abi/dstack-app.ts';
import { dstackKmsAbi } from '../abi/dstack-kms.ts';
import { type ContractName, loadArtifact } from '../artifact.ts';
import { ContractsError } from '../errors.ts';
import { deployContract } from './deploy-contract.ts';
import type { RunTask, Task, TaskRun } from './task.ts';
import { upgradeTask } from './upgrade-task.ts';

/** Shows what a deployment costs and asks. @returns whether to go on */
async function proposeDeployment(run: TaskRun, names: readonly ContractName[]): Promise<boolean> {
  const { chain, terminal } = run;
  const { account } = await chain.signer();
  const balance = await chain.public.getBalance({ address: account.address });
  terminal.print(`Deploying with account: ${account.address}`);
  terminal.print(`Account balance: ${formatEther(balance)}`);
  terminal.print(`Network: ${chain.network} (chain ${chain.chain.id})`);
  const gasPrice = await chain.public.getGasPrice();
  const gas = await Promise.all(
    names.map((name) =>
      chain.public.estimateGas({ account: account.address, data: loadArtifact(name).bytecode }),
    ),
  );
  const total = gas.reduce((sum, one) => sum + one, 0n);
  terminal.print(`Estimated gas: ${total}, about ${formatEther(total * gasPrice)} ETH`);
  if (run.dryRun) {
    terminal.print('Nothing was deployed.');
    return false;
  }
  if (balance < total * gasPrice) {
    throw new ContractsError('refused', `Account ${account.address} has less than the estimated cost`);
  }
  if (await terminal.confirm('Do you want to proceed with deployment? (y/N)')) return true;
  throw new ContractsError('refused', 'Deployment was not confirmed; nothing was deployed');
}

const deployKms: RunTask = {
  summary: 'deploy DstackKms behind a proxy',
  arguments: [
    { name: 'app-implementation', kind: 'address', optional: true, summary: 'code of app contracts' },
    { name: 'with-app-impl', kind: 'flag', summary: 'deploy the code of app contracts too' },
    {
      name: 'owner',
      kind: 'address',
      optional: true,
      summary: 'owner of the registry (default: the account)',
    },
  ],
  async run(run) {
    const { chain, terminal, values } = run;
    const withApp = values['with-app-impl'] === true;
    const given = values['app-implementation'] as Address | undefined;
    if (withApp && given !== undefined) {
      throw new ContractsError('bad-argument', '--with-app-impl and --app-implementation exclude each other');
    }
    const { account } = await chain.signer();
    const owner = (values['owner'] ?? account.address) as Address;
    if (!(await proposeDeployment(run, withApp ? ['DstackApp', 'DstackKms'] : ['DstackKms'])))
      return { sent: false };
    let appImplementation = given ?? zeroAddress;
    if (withApp) {
      appImplementation = (await deployContract(run, 'DstackApp')).address;
      terminal.print(`✅ DstackApp implementation deployed to: ${appImplementation}`);
    }
    const implementation = (await deployContract(run, 'DstackKms')).address;
    const setUp = encodeFunctionData({
      ...{ abi: dstackKmsAbi, functionName: 'initialize' },
      args: [owner, appImplementation],
    });
    const { address, transactionHash } = await deployContract(run, 'ERC1967Proxy', [implementation, setUp]);
    terminal.print(`DstackKms Proxy deployed to: ${address}`);
    terminal.print(`Implementation deployed to: ${implementation}`);
    terminal.print(`Transaction hash: ${transactionHash}`);
    if (withApp) terminal.print('✅ Complete KMS setup deployed successfully!');
    terminal.print(`Owner: ${owner}`);
    terminal.print(`Next: export KMS_CONTRACT_ADDRESS=${address}`);
    return { sent: true, kms: address, implementation, appImplementation, owner, transactionHash };
  },
};

const deployCode = (name: 'DstackKms' | 'DstackApp'): RunTask => ({
  summary: `deploy the code of ${name}, without a proxy`,
  arguments: [],
  async run(run) {
    if (!(await proposeDeployment(run, [name]))) return { sent: false };
    const { address, transactionHash } = await deployContract(run, name);
    run.terminal.print(`✅ ${name} implementation deployed to: ${address}`);
    return { sent: true, implementation: address, transactionHash };
  },
});

const deployApp: RunTask = {
  summary: 'deploy an app contract by hand, and register it',
  arguments: [
    { name: 'allow-any-device', kind: 'flag', summary: 'do not consult the device list' },
    { name: 'device', kind: 'hash', optional: true, summary: 'first device' },
    { name: 'hash', kind: 'hash', optional: true, summary: 'first compose hash' },
  ],
  async run(run) {
    const { chain, terminal, values } = run;
    const { account } = await chain.signer();
    // Found out before anything is paid for.
    const kms = chain.kms();
    if (!(await proposeDeployment(run, ['DstackApp']))) return { sent: false };
    const implementation = (await deployContract(run, 'DstackApp')).address;
    const setUp = encodeFunctionData({
      ...{ abi: dstackAppAbi as Abi, functionName: 'initialize' },
      args: [
        ...[account.address, false, values['allow-any-device'] === true],
        ...[values['device'] ?? zeroHash, values['hash'] ?? zeroHash],
      ],
    });
    const { address, transactionHash } = await deployContract(run, 'ERC1967Proxy', [implementation, setUp]);
    await run.submit({ to: kms, abi: dstackKmsAbi as Abi, functionName: 'registerApp', args: [address] });
    terminal.print('✅ App deployed and registered successfully!');
    terminal.print(`App ID: ${address}`);
    terminal.print(`Proxy Address: ${address}`);
    terminal.print(`Implementation Address: ${implementation}`);
    terminal.print(`Owner: ${account.address}`);
    terminal.print(`Transaction hash: ${transactionHash}`);
    return { sent: true, appId: address, implementation, owner: account.address, transactionHash };
  },
};

/** Tasks that deploy or replace code, by name. */
export const deployTasks: Readonly<Record<string, Task>> = {
  'kms:deploy': deployKms,
  'kms:deploy-impl': deployCode('DstackKms'),
  'kms:upgrade': upgradeTask('DstackKms'),
  'app:deploy': deployApp,
  'app:deploy-impl': deployCode('DstackApp'),
  'app:upgrade': upgradeTask('DstackApp'),
};
