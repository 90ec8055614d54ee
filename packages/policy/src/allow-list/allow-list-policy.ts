import { assertBootInfo } from '../assert-boot-info.ts';
import { PolicyError } from '../errors.ts';
import type { Policy } from '../policy.ts';
import { allowListFile } from './allow-list-file.ts';
import { decideByAllowList } from './decide-by-allow-list.ts';

/** Optional behaviour of the allow-list. */
export type AllowListOptions = {
  /** Told what is wrong with the file, with its path, each time it cannot be used. */
  onWarning?: (message: string) => void;
};

/**
 * Decide by a local file in auth-simple's format, read again for every request. A missing or
 * invalid file denies everything.
 */
export function allowListPolicy(path: string, options: AllowListOptions = {}): Policy {
  const read = allowListFile(path);
  return {
    async authorize(kind, info) {
      assertBootInfo(info);
      try {
        const list = await read();
        const reason = decideByAllowList(list, kind, info);
        return { allowed: reason === '', reason, gatewayAppId: list.gatewayAppId };
      } catch (error) {
        if (!(error instanceof PolicyError)) throw error;
        options.onWarning?.(error.detail ?? error.message);
        return { allowed: false, reason: error.message, gatewayAppId: '', failure: 'unavailable' };
      }
    },
    async describe() {
      const { kmsContractAddr, chainId, appImplementation, gatewayAppId } = await read();
      return { kmsContract: kmsContractAddr, chainId, appImplementation, gatewayAppId };
    },
  };
}
