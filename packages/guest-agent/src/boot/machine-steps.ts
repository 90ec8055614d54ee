import { mkdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { readFileBounded, type SysConfig, writeFileAtomic } from '@dstack-cloud/app';
import { isThere } from '@dstack-cloud/files';
import type { GuestConfig } from '../config/guest-config.ts';
import { hasSimulatedTee, simulatedRootFile, simulatedTpmRootFile } from '../config/simulated-roots.ts';
import { GuestError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { MachineHost } from './disk/machine-host.ts';
import { mountSharedDisk, unmountSharedDisk } from './disk/shared-disk.ts';
import { startDocker } from './start-docker.ts';

/** What a boot does to a machine of its own, beside measuring it and opening its disk. */
export interface MachineSteps {
  /** Makes the host's files readable. @throws GuestError */
  attachShared(): Promise<void>;
  /** Takes them away again, also after a boot that failed. */
  detachShared(): Promise<void>;
  /** Starts the container engine on the open disk; does not wait for it. @throws GuestError */
  startEngine(sys: SysConfig): Promise<void>;
}

const MAX_ROOT_BYTES = 64 * 1024;

/** The steps of a machine of our OS image. */
export function machineSteps(config: GuestConfig, host: MachineHost, log: Logger): MachineSteps {
  let attached = false;
  return {
    attachShared: async () => {
      await mountSharedDisk(host, config.hostShared);
      attached = true;
      if (!hasSimulatedTee(config)) return;
      await copySimulatedRoot(config, simulatedRootFile(config));
      const vtpms = simulatedTpmRootFile(config);
      if (isThere(join(config.hostShared, basename(vtpms)))) await copySimulatedRoot(config, vtpms);
    },
    detachShared: async () => {
      if (!attached) return;
      attached = false;
      await unmountSharedDisk(host, config.hostShared);
    },
    startEngine: (sys) => startDocker(config, sys, host, log),
  };
}

/** Only with a simulated TEE: its root stands beside the vendor's, and every result under it says so. */
async function copySimulatedRoot({ hostShared }: GuestConfig, target: string): Promise<void> {
  const source = join(hostShared, basename(target));
  try {
    const bytes = await readFileBounded(source, MAX_ROOT_BYTES, { noFollow: true, label: 'Source file' });
    await mkdir(dirname(target), { recursive: true, mode: 0o755 });
    await writeFileAtomic(target, bytes);
  } catch (cause) {
    throw new GuestError('host-shared-invalid', (cause as Error).message, { cause });
  }
}
