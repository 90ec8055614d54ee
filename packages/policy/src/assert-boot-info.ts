import type { BootInfo } from '@dstack-cloud/attestation';
import { PolicyError } from './errors.ts';

const MAX_TCB_STATUS = 128;
const MAX_ADVISORIES = 128;
const MAX_ADVISORY = 256;
const MAX_KEY_PROVIDER_INFO = 4096;

/** Exact lengths; padding a short value could turn it into another, allowed one. */
const lengths = {
  appId: [20],
  composeHash: [32],
  instanceId: [20, 0],
  deviceId: [32],
  mrAggregated: [32],
  mrSystem: [32, 0],
  osImageHash: [32],
} as const;

/**
 * Refuse facts that no policy can decide on, before anybody is asked.
 * @throws PolicyError `invalid-request` naming the field, the length wanted and the length found
 */
export function assertBootInfo(info: BootInfo): void {
  for (const [field, allowed] of Object.entries(lengths)) {
    const { length } = info[field as keyof typeof lengths];
    if (!(allowed as readonly number[]).includes(length)) {
      const wanted = allowed.map((size) => (size === 0 ? 'empty' : `${size} bytes`)).join(' or ');
      throw invalid(`${field} must be ${wanted}, found ${length} bytes`);
    }
  }
  if (info.keyProviderInfo.length > MAX_KEY_PROVIDER_INFO) throw invalid('keyProviderInfo is too long');
  if (info.tcbStatus.length > MAX_TCB_STATUS) throw invalid('tcbStatus is too long');
  if (info.advisoryIds.length > MAX_ADVISORIES) throw invalid('too many advisoryIds');
  if (info.advisoryIds.some((id) => id.length > MAX_ADVISORY)) throw invalid('an advisoryId is too long');
}

function invalid(what: string): PolicyError {
  return new PolicyError('invalid-request', `invalid authorization request: ${what}`);
}
