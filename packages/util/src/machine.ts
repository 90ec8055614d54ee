import { join } from 'node:path';
import { parseSysConfig } from '@dstack-cloud/app';
import {
  type EvidenceDevice,
  openDevice,
  openNitroDevice,
  openTdxDevice,
  PLATFORM_PATHS,
} from '@dstack-cloud/attestation/attester';
import { isThere } from '@dstack-cloud/files';
import { readSystemFile } from './files.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Where this program finds the machine; the variables are those of the original, and ours for a security module's stand-in. */
export interface Machine {
  /** `/dev/nsm`, or `unix:PATH` of a stand-in. */
  readonly nsm: string;
  readonly tsm: string | undefined;
  readonly rtmr: string | undefined;
  readonly ccel: string;
  readonly hostShared: string;
  readonly eventLog: string;
}

export function thisMachine(env: Environment = process.env): Machine {
  return {
    nsm: env['DSTACK_NSM'] || PLATFORM_PATHS.nsm,
    tsm: env['DCAP_TDX_QUOTE_CONFIGFS_PATH'] || undefined,
    rtmr: env['DCAP_TDX_RTMR_SYSFS_PATH'] || undefined,
    ccel: env['DSTACK_CCEL_FILE'] || PLATFORM_PATHS.ccel,
    hostShared: env['DSTACK_HOST_SHARED_DIR'] || '/dstack/.host-shared',
    eventLog: env['DSTACK_EVENT_LOG'] || '/run/log/dstack/runtime_events.log',
  };
}

/** Whether this program runs in an enclave, or beside what stands in for one. */
export function isEnclave({ nsm }: Machine): boolean {
  return nsm !== PLATFORM_PATHS.nsm || isThere(nsm);
}

/** The evidence device of this machine. @throws AttestationError */
export async function openMachineDevice(machine: Machine): Promise<EvidenceDevice> {
  if (isEnclave(machine)) return openNitroDevice({ nsm: machine.nsm });
  const config = await vmConfigOf(machine);
  const { tsm, rtmr, ccel, eventLog } = machine;
  if (tsm !== undefined && rtmr !== undefined) {
    const hasLog = ccel.startsWith('unix:') || isThere(ccel);
    return await openTdxDevice({ tsm, rtmr, eventLog, vmConfig: () => config, ...(hasLog && { ccel }) });
  }
  return await openDevice({ eventLog, vmConfig: () => config });
}

/** `vm_config` of the files that the host gave; empty where there are none. */
async function vmConfigOf({ hostShared }: Machine): Promise<string> {
  const file = join(hostShared, '.sys-config.json');
  return isThere(file) ? parseSysConfig(await readSystemFile(file)).vmConfig : '';
}
