import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type AppCompose, writeFileAtomic } from '@dstack-cloud/app';
import { EVENT } from '@dstack-cloud/attestation';
import { utf8 } from '@dstack-cloud/encoding';
import type { GuestConfig } from '../config/guest-config.ts';
import { GuestError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Measure } from './measure.ts';

/**
 * On a real machine data belongs on an encrypted disk; this guest cannot set one up yet, and a plain directory there
 * would look like one.
 *
 * @throws GuestError `storage-unsupported`
 */
export function requireDirectoryStorage({ root }: GuestConfig): void {
  if (root !== '/') return;
  throw new GuestError(
    'storage-unsupported',
    'This guest cannot set up an encrypted data disk yet; it runs only where a directory stands for the machine (root)',
  );
}

/**
 * The data disk of a machine that a directory stands for: the file system that app-compose asks for is measured as
 * on hardware, but the data lies in a plain directory, so nothing is encrypted at rest.
 */
export async function prepareStorage(
  config: GuestConfig,
  compose: AppCompose,
  measure: Measure,
  log: Logger,
): Promise<void> {
  const fs = compose.storageFs?.toLowerCase() ?? 'zfs';
  await measure(EVENT.storageFs, utf8(fs));
  await mkdir(config.dataDir, { recursive: true, mode: 0o700 });
  log.warn(
    { directory: config.dataDir },
    'Data disk is a plain directory here: no LUKS, not encrypted at rest',
  );
}

/** `agent.json` of chapter 30 section 4.9. */
export async function writeAgentConfig(config: GuestConfig, pccsUrl: string | undefined): Promise<void> {
  const core = { pccs_url: pccsUrl ?? null, data_disks: ['/', config.dataDir] };
  await writeFileAtomic(join(config.workDir, 'agent.json'), `${JSON.stringify({ default: { core } })}\n`);
}
