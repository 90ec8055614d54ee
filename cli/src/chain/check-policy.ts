import { type Hex, zeroAddress, zeroHash } from 'viem';
import { CliError } from '../errors.ts';
import type { Prepared } from '../project/shared-files.ts';
import { appAbi, type ChainConfig, connectReader, kmsAbi, shortMessage } from './connect.ts';

/** Reasons to deny that hold on every machine: what else decides, its device and its TCB, is not known before it boots. */
const HOLDS_EVERYWHERE: ReadonlySet<string> = new Set([
  'KMS contract is paused',
  'App is blocked',
  'App authorization expired',
  'OS image authorization expired',
  'Compose hash expired',
]);

/**
 * Asks the contracts what the key service is going to ask them, before a machine is touched for it: is the app registered,
 * are its compose hash and the OS image allowed, and is nothing of it paused, blocked or expired?
 *
 * @throws CliError `app_not_registered`, `compose_hash_not_allowed`, `refused`, `chain_unreachable`
 */
export async function checkPolicy(config: ChainConfig, prepared: Prepared): Promise<void> {
  const { client, kms } = await connectReader(config);
  const app: Hex = `0x${prepared.appId}`;
  const read = async (address: Hex, abi: typeof appAbi, functionName: string, arg: Hex): Promise<unknown> =>
    await client.readContract({ address, abi, functionName, args: [arg] });
  const answers = Promise.all([read(kms, kmsAbi, 'registeredApps', app), client.getCode({ address: app })]);
  const [registered, code] = await answers.catch((error: unknown) => {
    throw unreadable(error);
  });
  if (registered !== true || code === undefined || code === '0x')
    throw new CliError('app_not_registered', `The key service's contract ${kms} knows no app ${app}`, {
      hint: 'Make the app contract with dstack-cloud app create, or deploy --register',
    });
  await checkImagePolicy(config, prepared);
  const allowed = await read(app, appAbi, 'allowedComposeHashes', `0x${prepared.appPolicyHash}`).catch(
    (error: unknown) => {
      throw unreadable(error);
    },
  );
  if (allowed !== true)
    throw new CliError(
      'compose_hash_not_allowed',
      `Compose hash not allowed: the app contract ${app} would deny the boot`,
      {
        expected: 'a compose hash that the contract allows',
        found: prepared.appPolicyHash,
        hint: 'The owner of the app allows it with\ndstack-cloud app allow\nand then dstack-cloud deploy',
      },
    );
  const question = { address: kms, abi: kmsAbi, functionName: 'isAppAllowed', args: [bestCase(prepared)] };
  const decision = await client.readContract(question).catch((error: unknown) => {
    throw unreadable(error);
  });
  const [isAllowed, reason] = decision as readonly [boolean, string];
  if (!isAllowed && HOLDS_EVERYWHERE.has(reason))
    throw new CliError('refused', `The contracts would deny the boot: ${reason}`, {
      hint: `Ask the owner of the app ${app} and of ${kms}: dstack-cloud info app --app-id ${app}`,
    });
}

/**
 * What the key service's contract says of the OS image alone, which is known before an app has a contract.
 *
 * @throws CliError `refused`, `chain_unreachable`
 */
export async function checkImagePolicy(
  config: ChainConfig,
  { osImageHash }: Pick<Prepared, 'osImageHash'>,
): Promise<void> {
  const { client, kms } = await connectReader(config);
  const question = { address: kms, abi: kmsAbi, functionName: 'allowedOsImages', args: [`0x${osImageHash}`] };
  const isAllowed = await client.readContract(question).catch((error: unknown) => {
    throw unreadable(error);
  });
  if (isAllowed === true) return;
  throw new CliError('refused', `OS image is not allowed: ${osImageHash}`, {
    expected: `an OS image that ${kms} allows`,
    found: osImageHash,
    hint: `The owner of ${kms} allows it with\ndstack-cloud kms add-image ${osImageHash}\nor choose another os_image in app.json`,
  });
}

/** The application on the best of machines. */
function bestCase({ appId, appPolicyHash, osImageHash }: Prepared): object {
  return {
    appId: `0x${appId}`,
    composeHash: `0x${appPolicyHash}`,
    osImageHash: `0x${osImageHash}`,
    ...{ instanceId: zeroAddress, deviceId: zeroHash, mrAggregated: zeroHash, mrSystem: zeroHash },
    ...{ tcbStatus: 'UpToDate', advisoryIds: [] },
  };
}

function unreadable(error: unknown): CliError {
  return new CliError('chain_unreachable', `The contracts cannot be read: ${shortMessage(error)}`, {
    hint: 'Check chain.rpc_url and chain.kms_contract (dstack-cloud config-edit), or leave the decision to the key service with --no-policy-check',
  });
}
