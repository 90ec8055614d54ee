import type { Abi, Address } from 'viem';
import { dstackAppAbi } from '../abi/dstack-app.ts';
import { type CallTask, listed, type Task, type TaskArgument, type TaskValues } from './task.ts';

const abi = dstackAppAbi as Abi;
const appId: TaskArgument = {
  name: 'app-id',
  kind: 'address',
  summary: 'app id, the address of its contract',
};
const first = (name: string, kind: TaskArgument['kind'], summary: string): TaskArgument => ({
  ...{ name, kind, summary },
  place: 'first',
});

function onApp(
  functionName: string,
  summary: string,
  more: readonly TaskArgument[],
  done: string,
  args: (values: TaskValues) => readonly unknown[] = (values) => more.map(({ name }) => values[name]),
): CallTask {
  return {
    summary,
    arguments: [appId, ...more],
    call: (values) => ({ to: values['app-id'] as Address, abi, functionName, args: args(values) }),
    done,
  };
}

const composeHash = first('hash', 'hash', 'compose hash');
const device = first('device-id', 'hash', 'device id');

/** Tasks on one app's policy, by name. */
export const appTasks: Readonly<Record<string, Task>> = {
  'app:add-hash': {
    ...onApp('addComposeHash', 'allow a compose hash', [composeHash], 'Compose hash added successfully'),
    arguments: [
      appId,
      composeHash,
      { name: 'until', kind: 'time', optional: true, summary: 'last moment at which it counts' },
    ],
    call: ({ 'app-id': to, hash, until }) => ({
      ...{ to: to as Address, abi },
      functionName: until === undefined ? 'addComposeHash' : 'addComposeHashUntil',
      args: until === undefined ? [hash] : [hash, BigInt(until)],
    }),
  },
  'app:remove-hash': onApp(
    'removeComposeHash',
    'revoke a compose hash (owner or guardian)',
    [listed(composeHash)],
    'Compose hash removed successfully',
  ),
  'app:replace-hash': onApp(
    'replaceComposeHash',
    'allow a compose hash in place of another',
    [
      first('old-hash', 'listed-hash', 'the one that goes'),
      first('new-hash', 'hash', 'the one that comes'),
      {
        name: 'grace',
        kind: 'seconds',
        optional: true,
        summary: 'seconds for which the old one may still run',
      },
    ],
    'Compose hash replaced successfully',
    ({ 'old-hash': before, 'new-hash': after, grace }) => [before, after, BigInt(grace ?? 0)],
  ),
  'app:add-device': onApp('addDevice', 'allow a device', [device], 'Device ID added successfully'),
  'app:remove-device': onApp(
    'removeDevice',
    'revoke a device (owner or guardian)',
    [listed(device)],
    'Device ID removed successfully',
  ),
  'app:set-allow-any-device': onApp(
    'setAllowAnyDevice',
    'choose between the device list and any device',
    [
      {
        name: 'allow-any-device',
        kind: 'boolean',
        place: 'either',
        optional: true,
        summary: 'any device (absent: the list)',
      },
    ],
    'Allow any device set successfully',
    ({ 'allow-any-device': any }) => [any === true],
  ),
  'app:set-require-tcb': onApp(
    'setRequireTcbUpToDate',
    'choose whether the TCB must be up to date',
    [
      {
        name: 'require-tcb',
        kind: 'boolean',
        place: 'either',
        optional: true,
        summary: 'it must (absent: it need not)',
      },
    ],
    'TCB requirement set',
    ({ 'require-tcb': required }) => [required === true],
  ),
  'app:set-policy-delay': onApp(
    'setPolicyDelay',
    'make additions public before they count',
    [first('delay', 'seconds', 'seconds, at most 30 days; 0 for none')],
    'Policy delay set',
    ({ delay }) => [BigInt(String(delay))],
  ),
  'app:add-guardian': onApp(
    'setGuardian',
    'name a guardian',
    [first('guardian', 'address', 'account')],
    'Guardian added',
    ({ guardian }) => [guardian, true],
  ),
  'app:remove-guardian': onApp(
    'setGuardian',
    'dismiss a guardian',
    [first('guardian', 'address', 'account')],
    'Guardian removed',
    ({ guardian }) => [guardian, false],
  ),
};
