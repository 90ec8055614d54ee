import type { Abi, Address } from 'viem';
import { dstackAppAbi } from '../abi/dstack-app.ts';
import { dstackKmsAbi } from '../abi/dstack-kms.ts';
import { APP_FLAGS_SLOT, upgradesDisabledFrom } from '../app-flags.ts';
import { readKmsInfo } from '../manage.ts';
import { explainRevert, isRevert } from './explain-revert.ts';
import type { RunTask, TaskArgument, TaskRun } from './task.ts';

async function read(
  run: TaskRun,
  address: Address,
  abi: Abi,
  functionName: string,
  ...args: unknown[]
): Promise<unknown> {
  return await run.chain.public.readContract({ address, abi, functionName, args }).catch((error: unknown) => {
    throw explainRevert(`${functionName} of ${address}`, error);
  });
}

const onKms = (run: TaskRun, functionName: string, ...args: unknown[]): Promise<unknown> =>
  read(run, run.chain.kms(), dstackKmsAbi as Abi, functionName, ...args);

/** Asks one thing and prints one line. */
function question(summary: string, label: string, functionName: string, argument?: TaskArgument): RunTask {
  return {
    summary,
    arguments: argument ? [argument] : [],
    async run(run) {
      const args = argument ? [run.values[argument.name]] : [];
      const value = await onKms(run, functionName, ...args);
      run.terminal.print(`${label}: ${value}`);
      return { [functionName]: value };
    },
  };
}

const hash = (name: string): TaskArgument => ({
  name,
  kind: 'listed-hash',
  place: 'first',
  summary: '32 bytes, hex',
});

/** What an older contract does not have is null. That a node gives no answer does not mean so. */
async function readOptional(run: TaskRun, address: Address, abi: Abi, name: string, ...args: unknown[]) {
  return await run.chain.public
    .readContract({ address, abi, functionName: name, args })
    .catch((error: unknown) => {
      if (isRevert(error)) return null;
      throw explainRevert(`${name} of ${address}`, error);
    });
}

/** The 0.6 line has the flag, and no function for it. */
async function upgradesDisabled({ chain }: TaskRun, address: Address, allowAnyDevice: boolean) {
  const word = await chain.public.getStorageAt({ address, slot: APP_FLAGS_SLOT });
  return upgradesDisabledFrom(word ?? '0x', allowAnyDevice) ?? null;
}

/** Tasks that only read, by name. */
export const infoTasks: Readonly<Record<string, RunTask>> = {
  'kms:get-app-implementation': question(
    'the code of future apps',
    'DstackApp implementation',
    'appImplementation',
  ),
  'info:gateway': question('app id of the gateway', 'Gateway App ID', 'gatewayAppId'),
  'info:owner': question('owner of the registry', 'Owner', 'owner'),
  'info:image': question(
    'is this OS image allowed',
    'OS image allowed',
    'allowedOsImages',
    hash('os-image-hash'),
  ),
  'info:mr': question(
    'is this KMS measurement allowed',
    'KMS aggregated MR allowed',
    'kmsAllowedAggregatedMrs',
    hash('mr'),
  ),
  'info:device': question(
    'is this KMS device allowed',
    'KMS device allowed',
    'kmsAllowedDeviceIds',
    hash('device-id'),
  ),
  'info:registered': question('is this app registered', 'App registered', 'registeredApps', {
    ...{ name: 'app-id', kind: 'address', place: 'first', summary: 'app id' },
  }),
  'info:kms': {
    summary: 'the published identity of the KMS',
    arguments: [],
    async run(run) {
      const { k256Pubkey, caPubkey, quote } = await readKmsInfo(
        { public: run.chain.public } as never,
        run.chain.kms(),
      ).catch((error: unknown) => {
        throw explainRevert('kmsInfo', error);
      });
      const info = { k256Pubkey, caPubkey, quote };
      run.terminal.document(info, 'KMS Info: ');
      return info;
    },
  },
  'info:app': {
    summary: 'the policy of an app',
    arguments: [{ name: 'app-id', kind: 'address', summary: 'app id' }],
    async run(run) {
      const app = run.values['app-id'] as Address;
      const kms = run.chain.kms();
      const ask = (name: string): Promise<unknown> => read(run, app, dstackAppAbi as Abi, name);
      const optional = (name: string) => readOptional(run, app, dstackAppAbi as Abi, name);
      const ofKms = (name: string) => readOptional(run, kms, dstackKmsAbi as Abi, name, app);
      const allowAnyDevice = await ask('allowAnyDevice');
      const info = {
        appId: app,
        registered: await onKms(run, 'registeredApps', app),
        owner: await ask('owner'),
        allowAnyDevice,
        version: await optional('version'),
        implementation: await optional('implementation'),
        requireTcbUpToDate: await optional('requireTcbUpToDate'),
        upgradesDisabled:
          (await optional('upgradesDisabled')) ?? (await upgradesDisabled(run, app, allowAnyDevice === true)),
        policyEpoch: await optional('policyEpoch'),
        blocked: await ofKms('blockedApps'),
        notAfter: await ofKms('appNotAfter'),
      };
      for (const [name, value] of Object.entries(info)) {
        run.terminal.print(`${name}: ${value === null ? 'not in this version' : value}`);
      }
      return info;
    },
  },
};
