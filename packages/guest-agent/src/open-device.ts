import { type EvidenceDevice, isEndpoint, openTdxDevice } from '@dstack-cloud/attestation/attester';
import { isThere } from '@dstack-cloud/files';
import type { GuestConfig } from './config/guest-config.ts';

/** The TDX device of this machine, at the places that the configuration names. */
export function openConfiguredDevice(
  { devices, eventLog }: GuestConfig,
  vmConfig: () => string,
): Promise<EvidenceDevice> {
  const { tsm, rtmr, ccel } = devices;
  return openTdxDevice({
    tsm,
    rtmr,
    eventLog,
    vmConfig,
    ...(hasFirmwareLog(ccel) ? { ccel } : {}),
  });
}

/** A machine without the table has no firmware log; one that is named by an endpoint must answer. */
function hasFirmwareLog(ccel: string | undefined): ccel is string {
  return ccel !== undefined && (isEndpoint(ccel) || isThere(ccel));
}
