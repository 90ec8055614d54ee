import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isThere } from '@dstack-cloud/files';
import { AttestationError } from '../../errors.ts';
import { directoryFiles } from './directory-files.ts';
import { EndpointFiles } from './endpoint-files.ts';
import type { DeviceFiles } from './tsm-files.ts';

const UNIX = 'unix:';
const ENTRY = 'com.intel.dcap';
const PROVIDER_WAITS_MS = [1, 5, 20, 100, 500];

/** Whether a location is an endpoint; both forms have the same files. */
export function isEndpoint(location: string): boolean {
  return location.startsWith(UNIX);
}

/** The endpoint at `unix:PATH`. */
export function openEndpoint(location: string, timeoutMs: number): DeviceFiles {
  return new EndpointFiles(location.slice(UNIX.length), timeoutMs);
}

/**
 * The files of a TSM report entry: an endpoint, an entry, or the folder of entries, where ours is then made.
 * @throws AttestationError `device`
 */
export async function openTsmFiles(location: string, timeoutMs: number): Promise<DeviceFiles> {
  if (isEndpoint(location)) return openEndpoint(location, timeoutMs);
  if (isThere(join(location, 'provider'))) return directoryFiles(location);
  const entry = join(location, ENTRY);
  try {
    await mkdir(entry);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') {
      throw new AttestationError('device', `Cannot make the TSM report entry ${entry}`, { cause });
    }
  }
  // The kernel fills a new entry a moment later.
  for (const wait of PROVIDER_WAITS_MS) {
    if (isThere(join(entry, 'provider'))) return directoryFiles(entry);
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
  throw new AttestationError('device', `${entry} is no TSM report entry: it has no provider`);
}
