import { LOGINS_PER_MINUTE } from '@dstack-cloud/prpc';
import { BYTES_PER_MINUTE } from './audit/fold-refusals.ts';
import { checkConfig } from './config/check-config.ts';
import type { KmsConfig } from './config/kms-config.ts';
import { bodyLimits } from './server/body-limits.ts';

/** What is bounded where nothing is configured, for the documentation. */
export function defaultLimits(): {
  readonly tls: KmsConfig['rpc']['tls'];
  readonly rate: KmsConfig['core']['rate_limit'];
  readonly bodies: Readonly<Record<string, number>>;
  readonly loginsPerMinute: number;
  readonly refusalBytesPerMinute: number;
} {
  const config = checkConfig({}, {});
  return {
    tls: config.rpc.tls,
    rate: config.core.rate_limit,
    bodies: bodyLimits(config),
    loginsPerMinute: LOGINS_PER_MINUTE,
    refusalBytesPerMinute: BYTES_PER_MINUTE,
  };
}
