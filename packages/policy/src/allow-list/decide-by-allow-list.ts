import type { BootInfo } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import type { BootKind } from '../policy.ts';
import type { AllowList, DeviceRule } from './allow-list-schema.ts';

/**
 * Why an allow-list refuses these facts, or the empty string: the order and texts of the file format of auth-simple.
 * Unlike the original, empty lists of measurements or devices allow nothing.
 */
export function decideByAllowList(list: AllowList, kind: BootKind, info: BootInfo): string {
  if (!list.allowedTcbStatuses.includes(info.tcbStatus)) return 'TCB status is not allowed';
  if (!info.advisoryIds.every((id) => list.allowedAdvisoryIds.includes(id))) {
    return 'advisory ID is not allowed';
  }
  if (!list.osImages.has(toHex(info.osImageHash))) return 'OS image is not allowed';
  return kind === 'kms' ? decideKms(list, info) : decideApp(list, info);
}

function decideKms({ kms }: AllowList, info: BootInfo): string {
  if (!kms.mrAggregated.has(toHex(info.mrAggregated))) return 'aggregated MR not allowed';
  if (!isDeviceAllowed(kms, info)) return 'KMS is not allowed to boot on this device';
  return '';
}

function decideApp({ apps }: AllowList, info: BootInfo): string {
  const app = apps.get(toHex(info.appId));
  if (!app) return 'app not registered';
  if (!app.composeHashes.has(toHex(info.composeHash))) return 'compose hash not allowed';
  if (!isDeviceAllowed(app, info)) return 'app is not allowed to boot on this device';
  return '';
}

function isDeviceAllowed(rule: DeviceRule, info: BootInfo): boolean {
  return rule.allowAnyDevice || rule.devices.has(toHex(info.deviceId));
}
