import type { BootInfo } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';

/**
 * JSON body of `POST {url}/bootAuth/app|kms`: keys in the recorded order, byte fields as
 * lower-case hex without 0x. Carries the name of both generations for the kind of evidence.
 */
export function webhookBody(info: BootInfo): string {
  const mode = info.mode ?? '';
  return JSON.stringify({
    attestationMode: mode,
    teeVariant: mode,
    mrAggregated: toHex(info.mrAggregated),
    osImageHash: toHex(info.osImageHash),
    mrSystem: toHex(info.mrSystem),
    appId: toHex(info.appId),
    composeHash: toHex(info.composeHash),
    instanceId: toHex(info.instanceId),
    deviceId: toHex(info.deviceId),
    keyProviderInfo: toHex(info.keyProviderInfo),
    tcbStatus: info.tcbStatus,
    advisoryIds: info.advisoryIds,
    // Nitro's deviceId is a constant; the true host goes beside it (section 5.1).
    ...(info.hostId === undefined ? {} : { hostId: toHex(info.hostId) }),
  });
}
