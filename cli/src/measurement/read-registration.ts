import { dstackAppAbi, dstackKmsAbi } from '@dstack-cloud/contracts';
import { callOfTask, unsignedOf } from '@dstack-cloud/contracts/tasks';
import { type Call, type ContractState, ifPresent, timeText } from '@dstack-cloud/governance';
import { type Abi, type Address, encodeFunctionData, type Hex, isAddressEqual, keccak256, toHex } from 'viem';
import { CliError } from '../errors.ts';
import type { GovSession, GovView } from '../gov/connect-gov.ts';
import type { Workload } from './workload.ts';

/** One thing that a contract has to allow. */
export interface Entry {
  readonly what: string;
  readonly isAllowed: boolean;
  /** What is special about it, such as its end. */
  readonly note?: string;
  /** What allows it, where it is missing. */
  readonly call?: Call;
  /** Whose owner makes the call; anybody may register an app. */
  readonly contract: Address;
}

export interface Registration {
  readonly entries: readonly Entry[];
  /** What denies the workload all the same, and no addition ends. */
  readonly obstacles: readonly string[];
}

export interface RegistrationOptions {
  /** Allow any device instead of the workload's. */
  readonly anyDevice: boolean;
  readonly allowDebug: boolean;
}

/** Compares a workload with what the contracts say at the block of `view`. @throws CliError `app_not_registered` */
export async function readRegistration(
  session: GovSession,
  view: GovView,
  workload: Workload,
  options: RegistrationOptions,
): Promise<Registration> {
  const reader = contractReader(session, view);
  const entries: Entry[] = [];
  const obstacles = await kmsObstacles(reader, view, workload);
  const { kms } = view.governance;
  const add = async (
    contract: Address,
    what: string,
    state: { isAllowed: boolean; note?: string },
    ...words: string[]
  ): Promise<void> => {
    if (state.isAllowed) {
      entries.push({ what, contract, ...state });
      return;
    }
    const { to, data } = unsignedOf(await callOfTask(words, kms.address, options.allowDebug));
    entries.push({ what, contract, ...state, call: { to, value: 0n, data } });
  };
  const onKms = async (functionName: string, value: Hex): Promise<boolean> =>
    (await reader(kms.address, functionName, [value])) === true;
  const { osImageHash, mrAggregated, deviceId } = workload;
  const image = await endingState(
    reader,
    view,
    kms.address,
    ['allowedOsImages', 'osImageNotAfter'],
    osImageHash,
  );
  await add(kms.address, `OS image ${osImageHash}`, image, 'kms:add-image', osImageHash);
  if (workload.role === 'kms') {
    for (const [what, functionName, task, value] of [
      ['KMS measurement', 'kmsAllowedAggregatedMrs', 'kms:add', mrAggregated],
      ['KMS device', 'kmsAllowedDeviceIds', 'kms:add-device', deviceId],
    ] as const) {
      if (value === undefined) throw missing(workload, what);
      await add(
        kms.address,
        `${what} ${value}`,
        { isAllowed: await onKms(functionName, value) },
        task,
        value,
      );
    }
    return { entries, obstacles };
  }
  const app = await appOf(session, view, workload);
  const named = `--app-id=${app.address}`;
  if ((await reader(kms.address, 'registeredApps', [app.address])) !== true) {
    const args = [app.address] as const;
    const data = encodeFunctionData({ abi: dstackKmsAbi, functionName: 'registerApp', args });
    entries.push({
      ...{ what: `app ${app.address} with DstackKms`, isAllowed: false, contract: app.address },
      call: { to: kms.address, value: 0n, data },
    });
  } else entries.push({ what: `app ${app.address} with DstackKms`, isAllowed: true, contract: app.address });
  const { composeHash } = workload;
  if (composeHash === undefined) throw missing(workload, 'compose hash');
  const compose = await endingState(
    reader,
    view,
    app.address,
    ['allowedComposeHashes', 'composeHashNotAfter'],
    composeHash,
  );
  await add(app.address, `compose hash ${composeHash}`, compose, 'app:add-hash', named, composeHash);
  if (options.anyDevice || app.allowAnyDevice === true) {
    const isAllowed = app.allowAnyDevice === true;
    await add(app.address, 'any device', { isAllowed }, 'app:set-allow-any-device', named, 'true');
  } else if (deviceId === undefined) {
    obstacles.push(
      `Device not allowed: the app takes only devices of its list, and which this one is shows when it runs. Pass --device ID or --any-device, or register the URL of the running machine`,
    );
  } else {
    const isAllowed = (await reader(app.address, 'allowedDeviceIds', [deviceId])) === true;
    await add(app.address, `device ${deviceId}`, { isAllowed }, 'app:add-device', named, deviceId);
  }
  if ((await reader(app.address, 'requireTcbUpToDate', [])) === true && !isUpToDate(workload)) {
    obstacles.push(
      `TCB status is not up to date: the app demands it, and the machine has ${tcbOf(workload)}`,
    );
  }
  return { entries, obstacles };
}

type Read = (address: Address, functionName: string, args: readonly unknown[]) => Promise<unknown>;

/** Reads at the block of the view; undefined where a contract has no such function. */
function contractReader({ client }: GovSession, { governance }: GovView): Read {
  return async (address, functionName, args) => {
    const abi = (isAddressEqual(address, governance.kms.address) ? dstackKmsAbi : dstackAppAbi) as Abi;
    return await ifPresent(
      client.readContract({
        ...{ address, abi, functionName, args: [...args] },
        blockNumber: governance.block.number,
      }),
    );
  };
}

/** Allowed, and its end, if it has one, has not passed. */
async function endingState(
  read: Read,
  { governance }: GovView,
  address: Address,
  [allowed, end]: readonly [string, string],
  value: Hex,
): Promise<{ isAllowed: boolean; note?: string }> {
  if ((await read(address, allowed, [value])) !== true) return { isAllowed: false };
  const notAfter = BigInt(((await read(address, end, [value])) as bigint | undefined) ?? 0n);
  if (notAfter === 0n) return { isAllowed: true };
  const isAllowed = notAfter >= governance.block.timestamp;
  return { isAllowed, note: `${isAllowed ? 'ends' : 'ended'} ${timeText(notAfter)}` };
}

async function kmsObstacles(read: Read, { governance }: GovView, workload: Workload): Promise<string[]> {
  const { kms, block } = governance;
  const { role, appId, advisoryIds } = workload;
  const found: string[] = [];
  if (kms.paused === true)
    found.push('KMS contract is paused: allows nothing until dstack-cloud kms unpause');
  for (const id of advisoryIds) {
    if ((await read(kms.address, 'advisoryDenied', [keccak256(toHex(id))])) === true)
      found.push(`Advisory is denied: ${id}, which the machine's platform has`);
  }
  if (role === 'kms') {
    if (!isUpToDate(workload))
      found.push(
        `TCB status is not up to date: a KMS needs UpToDate, and the machine has ${tcbOf(workload)}`,
      );
    return found;
  }
  if (appId === undefined) return found;
  if ((await read(kms.address, 'blockedApps', [appId])) === true) found.push(`App is blocked: ${appId}`);
  const end = BigInt(((await read(kms.address, 'appNotAfter', [appId])) as bigint | undefined) ?? 0n);
  if (end !== 0n && end < block.timestamp) found.push(`App authorization expired: ${timeText(end)}`);
  return found;
}

/** Before a machine runs it is not known, and nothing is said about it. */
function isUpToDate({ tcbStatus }: Workload): boolean {
  return tcbStatus === undefined || tcbStatus === 'UpToDate';
}

function tcbOf({ tcbStatus }: Workload): string {
  return tcbStatus === undefined || tcbStatus === '' ? 'none' : tcbStatus;
}

async function appOf(
  { client }: GovSession,
  { governance }: GovView,
  workload: Workload,
): Promise<ContractState> {
  const { appId } = workload;
  if (appId === undefined) throw missing(workload, 'app id');
  const found = governance.apps.find(({ address }) => isAddressEqual(address, appId));
  if (found !== undefined) return found;
  const code = await client.getCode({ address: appId, blockNumber: governance.block.number });
  const isThere = code !== undefined && code !== '0x';
  throw new CliError(
    'app_not_registered',
    isThere ? `The contract at ${appId} is no DstackApp` : `There is no app contract at ${appId}`,
    {
      hint: isThere
        ? 'It decides by its own rules: register with its own tools'
        : 'Make one with dstack-cloud app create, or dstack-cloud deploy --register',
    },
  );
}

function missing({ source }: Workload, what: string): CliError {
  return new CliError('bad_argument', `${source} does not say which ${what} to register`);
}
