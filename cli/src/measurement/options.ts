import { addressValue } from '@dstack-cloud/contracts/tasks';
import type { Address } from 'viem';
import { CliError, EXIT } from '../errors.ts';
import type { GovOptions } from '../gov/connect-gov.ts';
import { wholeNumber } from '../whole-number.ts';
import type { WorkloadOptions } from './workload.ts';

/** Options of `measurement register` and `measurement plan`, as commander gives them. */
export type MeasurementOptions = GovOptions & {
  readonly role?: string;
  readonly appId?: string;
  readonly device?: string;
  readonly anyDevice?: boolean;
  readonly at?: string;
  readonly allowSimulated?: boolean;
  readonly allowDebug?: boolean;
  readonly requireTimelock?: string;
};

/** @throws CliError `usage`, `bad_argument` */
export function workloadOptions(
  options: MeasurementOptions,
  command: WorkloadOptions['command'],
): WorkloadOptions {
  const { role = 'app', appId, device, at, anyDevice, allowSimulated } = options;
  if (role !== 'app' && role !== 'kms') {
    throw new CliError('usage', '--role is app or kms', { exitCode: EXIT.usage, found: role });
  }
  if (role === 'kms' && (appId !== undefined || anyDevice === true)) {
    throw new CliError('usage', 'A key service has no app contract: --app-id and --any-device are for apps', {
      exitCode: EXIT.usage,
    });
  }
  return {
    ...{ command, role, allowSimulated: allowSimulated === true },
    ...(appId !== undefined && { appId }),
    ...(device !== undefined && { device }),
    ...(at !== undefined && { at }),
  };
}

/** What kms.toml demands, in seconds. */
export function requiredDelay({ requireTimelock }: MeasurementOptions): number | undefined {
  return wholeNumber('--require-timelock', requireTimelock);
}

/** An address of an option, or undefined. */
export function addressOption(name: string, text: string | undefined): Address | undefined {
  return text === undefined ? undefined : addressValue(name, text);
}
