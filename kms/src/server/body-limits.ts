import { LARGE_BODY_LIMIT } from '@dstack-cloud/prpc';
import { parseSize } from '../config/duration.ts';
import type { KmsConfig } from '../config/kms-config.ts';

/** Largest message of methods that take more than 64 KiB: those with evidence, or with a virtual machine's configuration. */
const BODY_LIMITS: Readonly<Record<string, number>> = {
  GetAppKey: 256 * 1024,
  GetKey: 256 * 1024,
  GetKmsKey: 256 * 1024,
  SignCert: 4 * 1024 * 1024,
};

/** The same of the admin listener, whose callers have a credential. */
export const ADMIN_BODY_LIMITS: Readonly<Record<string, number>> = { CheckBoot: LARGE_BODY_LIMIT };

/** Those of the main listener, as configured. */
export function bodyLimits({ rpc: { limits } }: KmsConfig): Readonly<Record<string, number>> {
  const configured = Object.entries(limits).map(([method, size]) => [method, parseSize(size) ?? 0] as const);
  return { ...BODY_LIMITS, ...Object.fromEntries(configured) };
}
