import { join } from 'node:path';
import {
  type EvidenceDevice,
  isEndpoint,
  isOnGce,
  openGcpTdxDevice,
  openTdxDevice,
  PLATFORM_PATHS,
} from '@dstack-cloud/attestation/attester';
import { isThere } from '@dstack-cloud/files';
import type { GuestConfig } from './config/guest-config.ts';
import { GuestError } from './errors.ts';

/**
 * The evidence device of this machine, at the places that the configuration names: TDX, and on Google Cloud the vTPM with
 * it, which alone says there which image was booted.
 *
 * @throws GuestError `tee-missing` on Google Cloud without a vTPM
 */
export async function openConfiguredDevice(
  config: Pick<GuestConfig, 'root' | 'devices' | 'tpm' | 'eventLog'>,
  vmConfig: () => string,
): Promise<EvidenceDevice> {
  const { root, devices, tpm, eventLog } = config;
  const { tsm, rtmr, ccel } = devices;
  const tdx = { tsm, rtmr, eventLog, vmConfig, ...(hasFirmwareLog(ccel) ? { ccel } : {}) };
  if (!isOnGce(join(root, PLATFORM_PATHS.productName))) return await openTdxDevice(tdx);
  const device = tpm.devices.find((one) => isEndpoint(one) || isThere(one));
  if (device === undefined)
    throw new GuestError(
      'tee-missing',
      'This machine of Google Cloud has no vTPM: enable it for the instance',
      {
        expected: tpm.devices.join(' or '),
        found: 'none',
      },
    );
  return await openGcpTdxDevice({ ...tdx, tpm: device, tpmEventLog: tpm.eventLog });
}

/** A machine without the table has no firmware log; one that is named by an endpoint must answer. */
function hasFirmwareLog(ccel: string | undefined): ccel is string {
  return ccel !== undefined && (isEndpoint(ccel) || isThere(ccel));
}
