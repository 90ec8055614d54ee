import { isThere } from '@dstack-cloud/files';
import { AttestationError } from '../errors.ts';
import { detectPlatform, PLATFORM_PATHS, type PlatformPaths } from './detect-platform.ts';
import type { EvidenceDevice } from './evidence-device.ts';
import { openGcpTdxDevice } from './open-gcp-tdx-device.ts';
import { openNitroDevice } from './open-nitro-device.ts';
import { openTdxDevice } from './open-tdx-device.ts';
import { tdxLocations } from './tdx-locations.ts';

export interface DeviceOptions {
  /** File of the runtime events. */
  readonly eventLog: string;
  /** The vm_config text that evidence carries. */
  readonly vmConfig: () => string;
  readonly timeoutMs?: number;
  /** Where to look for hardware; default the kernel's own places. */
  readonly paths?: PlatformPaths;
}

/**
 * The evidence device of the machine this program runs on, whichever it is.
 * @throws AttestationError `unsupported` for machines without one, `device`
 */
export async function openDevice(options: DeviceOptions): Promise<EvidenceDevice> {
  const paths = options.paths ?? PLATFORM_PATHS;
  const mode = detectPlatform(paths);
  const timeout = options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs };
  const { eventLog, vmConfig } = options;
  switch (mode) {
    case 'dstack-nitro-enclave':
      return openNitroDevice({ nsm: paths.nsm, ...timeout });
    case 'dstack-tdx':
      return await openTdxDevice({ ...tdxLocations(paths), eventLog, vmConfig, ...timeout });
    case 'dstack-gcp-tdx': {
      const tpm = paths.tpm.find((path) => isThere(path));
      if (tpm === undefined) throw new AttestationError('device', 'This GCP machine has no vTPM');
      const { tpmEventLog } = paths;
      return await openGcpTdxDevice({
        ...tdxLocations(paths),
        tpm,
        tpmEventLog,
        eventLog,
        vmConfig,
        ...timeout,
      });
    }
    default:
      throw new AttestationError('unsupported', `Evidence of ${mode} can be verified here, but not obtained`);
  }
}
