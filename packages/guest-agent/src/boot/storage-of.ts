import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type AppCompose, DEFAULT_FILE_SYSTEM, writeFileAtomic } from '@dstack-cloud/app';
import { EVENT } from '@dstack-cloud/attestation';
import { utf8 } from '@dstack-cloud/encoding';
import type { GuestConfig } from '../config/guest-config.ts';
import type { Logger } from '../log.ts';
import { diskStorage } from './disk/disk-storage.ts';
import { type MachineHost, thisMachine } from './disk/machine-host.ts';
import type { Storage } from './disk/storage.ts';
import type { Measure } from './measure.ts';

/** The storage of this machine: its encrypted disk, or a folder where a directory stands for the machine. */
export function storageOf(config: GuestConfig, log: Logger, host: MachineHost = thisMachine): Storage {
  return config.root === '/' ? diskStorage(config, host, log) : directoryStorage(config, log);
}

/** Measures the file system that app-compose asks for. */
export async function measureStorage(compose: AppCompose, measure: Measure): Promise<void> {
  await measure(EVENT.storageFs, utf8(compose.storageFs?.toLowerCase() ?? DEFAULT_FILE_SYSTEM));
}

/** A plain folder: nothing is encrypted at rest. */
function directoryStorage({ dataDir }: GuestConfig, log: Logger): Storage {
  return {
    check: async () => undefined,
    open: async () => {
      await mkdir(dataDir, { recursive: true, mode: 0o700 });
      log.warn({ directory: dataDir }, 'Data disk is a plain directory here: no LUKS, not encrypted at rest');
    },
  };
}

/** `agent.json`, which names the disks that the agent reports. */
export async function writeAgentConfig(config: GuestConfig, pccsUrl: string | undefined): Promise<void> {
  const core = { pccs_url: pccsUrl ?? null, data_disks: ['/', config.dataDir] };
  await writeFileAtomic(join(config.workDir, 'agent.json'), `${JSON.stringify({ default: { core } })}\n`);
}
