import type { Abi, Address, Hex } from 'viem';
import { keccak256, parseEventLogs, toHex, zeroHash } from 'viem';
import { dstackKmsAbi } from '../abi/dstack-kms.ts';
import { ContractsError } from '../errors.ts';
import { readInfoFile } from './read-info-file.ts';
import {
  type CallTask,
  listed,
  type RunTask,
  type Task,
  type TaskArgument,
  type TaskRun,
  type TaskValues,
} from './task.ts';

const abi = dstackKmsAbi as Abi;

/** A call to DstackKms with the one positional value of the task. */
function onKms(
  functionName: string,
  summary: string,
  argument: TaskArgument,
  done: string,
  more: { arguments?: readonly TaskArgument[]; args?: (values: TaskValues) => readonly unknown[] } = {},
): CallTask {
  return {
    summary,
    arguments: [argument, ...(more.arguments ?? [])],
    call: (values, chain) => ({
      to: chain.kms(),
      abi,
      functionName,
      args: more.args?.(values) ?? [values[argument.name]],
    }),
    done,
  };
}

const bare = (functionName: string, summary: string, done: string): CallTask => ({
  summary,
  arguments: [],
  call: (_, chain) => ({ to: chain.kms(), abi, functionName, args: [] }),
  done,
});

const hash = (name: string, summary: string): TaskArgument => ({
  name,
  kind: 'hash',
  summary,
  place: 'first',
});
const address = (name: string, summary: string): TaskArgument => ({
  ...{ name, summary },
  kind: 'address',
  place: 'first',
});
const text = (name: string, summary: string): TaskArgument => ({
  name,
  kind: 'text',
  summary,
  place: 'first',
});
const image = hash('os-image-hash', 'OS image hash');
const until: TaskArgument = {
  name: 'until',
  kind: 'time',
  optional: true,
  summary: 'last moment at which it counts, such as 2027-01-31T00:00:00Z',
};

const addImage: CallTask = {
  summary: 'allow an OS image',
  arguments: [image, until],
  call: ({ until: end, 'os-image-hash': value }, chain) => ({
    ...{ to: chain.kms(), abi },
    functionName: end === undefined ? 'addOsImageHash' : 'addOsImageHashUntil',
    args: end === undefined ? [value] : [value, BigInt(end)],
  }),
  done: 'Image added successfully',
};

/** Creates an app through the factory. */
const createApp: RunTask = {
  summary: 'create an app contract through the factory, and register it',
  arguments: [
    { name: 'allow-any-device', kind: 'flag', summary: 'do not consult the device list' },
    { name: 'device', kind: 'hash', optional: true, summary: 'first device' },
    { name: 'hash', kind: 'hash', optional: true, summary: 'first compose hash' },
    { name: 'require-tcb', kind: 'flag', summary: 'the TCB must be up to date' },
    { name: 'owner', kind: 'address', optional: true, summary: 'who manages it (default: who creates it)' },
    { name: 'salt', kind: 'text', optional: true, summary: 'an address that is known before, by this word' },
  ],
  run: (run) => createTheApp(run),
};

async function createTheApp({
  chain,
  terminal,
  values,
  caller,
  submit,
}: TaskRun): Promise<Record<string, unknown>> {
  const owner = (values['owner'] ?? (await caller())) as Address;
  const { device, hash: composeHash, salt } = values as Record<string, Hex | undefined>;
  const flags = [values['require-tcb'] === true, values['allow-any-device'] === true] as const;
  const tail = [device ?? zeroHash, composeHash ?? zeroHash] as const;
  const kms = chain.kms();
  const call =
    salt === undefined
      ? flags[0]
        ? { functionName: 'deployAndRegisterApp', args: [owner, false, ...flags, ...tail] }
        : // The function of the 0.6 line, which every version has.
          { functionName: 'deployAndRegisterApp', args: [owner, false, flags[1], ...tail] }
      : {
          functionName: 'deployAndRegisterAppDeterministic',
          args: [keccak256(toHex(salt)), owner, false, ...flags, ...tail],
        };
  const submitted = await submit({ to: kms, abi, ...call });
  if (!submitted.sent) return submitted;
  const [event] = parseEventLogs({
    abi: dstackKmsAbi,
    eventName: 'AppDeployedViaFactory',
    logs: (submitted['logs'] ?? []) as never,
  });
  if (!event) throw new ContractsError('event-missing', `${kms} made no app contract: it is no DstackKms`);
  const { appId, deployer } = event.args;
  terminal.print('✅ App deployed and registered successfully!');
  terminal.print(`Proxy Address (App Id): ${appId}`);
  // Scripts read this line; it always was the account that called the factory.
  terminal.print(`Owner: ${deployer}`);
  if (owner !== deployer) terminal.print(`Managed by: ${owner}`);
  terminal.print(`Transaction hash: ${submitted.transactionHash}`);
  const count = (value: Hex | undefined): number => (value === undefined ? 0 : 1);
  terminal.print(
    `Deployed with ${count(device)} initial device and ${count(composeHash)} initial compose hash`,
  );
  return { ...submitted, appId, owner, deployer };
}

/** Tasks on the registry, by name. */
export const kmsTasks: Readonly<Record<string, Task>> = {
  'kms:set-info': {
    summary: 'publish the identity of the KMS',
    arguments: [
      {
        name: 'file',
        kind: 'file',
        place: 'first',
        summary: 'JSON with k256Pubkey, caPubkey, quote, eventlog',
      },
    ],
    call: async ({ file }, chain) => ({
      ...{ to: chain.kms(), abi },
      functionName: 'setKmsInfo',
      args: [await readInfoFile(String(file))],
    }),
    done: 'KMS info set successfully',
  },
  'kms:set-gateway': onKms(
    'setGatewayAppId',
    'name the gateway',
    text('app-id', 'app id of the gateway'),
    'Gateway App ID set successfully',
  ),
  'kms:add': onKms(
    'addKmsAggregatedMr',
    'allow a KMS measurement',
    hash('mr', 'aggregated measurement'),
    'KMS aggregated MR added successfully',
  ),
  'kms:remove': onKms(
    'removeKmsAggregatedMr',
    'revoke a KMS measurement',
    listed(hash('mr', 'aggregated measurement')),
    'KMS aggregated MR removed successfully',
  ),
  'kms:add-image': addImage,
  'kms:remove-image': onKms(
    'removeOsImageHash',
    'revoke an OS image',
    listed(image),
    'Image removed successfully',
  ),
  'kms:add-device': onKms(
    'addKmsDevice',
    'allow a device for the KMS',
    hash('device-id', 'device id'),
    'Device compose hash added successfully',
  ),
  'kms:remove-device': onKms(
    'removeKmsDevice',
    'revoke a device of the KMS',
    listed(hash('device-id', 'device id')),
    'Device ID removed successfully',
  ),
  'kms:set-app-implementation': onKms(
    'setAppImplementation',
    'choose the code of future apps',
    address('implementation', 'address of the code'),
    'DstackApp implementation set successfully',
  ),
  'kms:create-app': createApp,
  'kms:pause': bare('pause', 'allow nothing until unpause (owner or guardian)', 'KMS contract paused'),
  'kms:unpause': bare('unpause', 'end the pause', 'KMS contract unpaused'),
  'kms:block-app': onKms(
    'blockApp',
    'deny an app (owner or guardian)',
    address('app-id', 'app id'),
    'App blocked',
  ),
  'kms:unblock-app': onKms(
    'unblockApp',
    'leave an app to its own policy again',
    address('app-id', 'app id'),
    'App unblocked',
  ),
  'kms:deny-advisory': onKms(
    'denyAdvisory',
    'deny platforms with an advisory (owner or guardian)',
    text('advisory', 'such as INTEL-SA-00837'),
    'Advisory denied',
  ),
  'kms:allow-advisory': onKms(
    'allowAdvisory',
    'stop denying platforms with an advisory',
    text('advisory', 'such as INTEL-SA-00837'),
    'Advisory allowed',
  ),
  'kms:set-app-expiry': onKms(
    'setAppPolicyExpiry',
    'give an app an end',
    address('app-id', 'app id'),
    'App expiry set',
    {
      arguments: [until],
      args: ({ 'app-id': app, until: end }) => [app, BigInt(end ?? 0)],
    },
  ),
  'kms:set-policy-delay': {
    summary: 'make additions public before they count',
    arguments: [
      { name: 'delay', kind: 'seconds', place: 'first', summary: 'seconds, at most 30 days; 0 for none' },
    ],
    call: ({ delay }, chain) => ({
      ...{ to: chain.kms(), abi },
      functionName: 'setPolicyDelay',
      args: [BigInt(String(delay))],
    }),
    done: 'Policy delay set',
  },
  'kms:add-guardian': onKms(
    'setGuardian',
    'name a guardian',
    address('guardian', 'account'),
    'Guardian added',
    {
      args: ({ guardian }) => [guardian, true],
    },
  ),
  'kms:remove-guardian': onKms(
    'setGuardian',
    'dismiss a guardian',
    address('guardian', 'account'),
    'Guardian removed',
    {
      args: ({ guardian }) => [guardian, false],
    },
  ),
};
