import { assertBootInfo } from '../assert-boot-info.ts';
import { PolicyError } from '../errors.ts';
import type { Policy } from '../policy.ts';

/** Configuration of the policy that allows everything. */
export type DevPolicyOptions = {
  /** Must be true: whoever reaches such a KMS gets keys. */
  dangerouslyAllowEverything: boolean;
  /** Default `any`. */
  gatewayAppId?: string;
};

/**
 * Allow everything, for development.
 * @throws PolicyError `dev-refused` unless the caller says that it means it
 */
export function devPolicy(options: DevPolicyOptions): Policy {
  const { dangerouslyAllowEverything, gatewayAppId = 'any' } = options;
  if (dangerouslyAllowEverything !== true) {
    throw new PolicyError(
      'dev-refused',
      'The dev policy gives keys to everybody. Configure a webhook, a chain or an allow-list, or say dangerously that you want it.',
    );
  }
  return {
    async authorize(_kind, info) {
      assertBootInfo(info);
      return { allowed: true, reason: '', gatewayAppId };
    },
    async describe() {
      return { gatewayAppId };
    },
  };
}
