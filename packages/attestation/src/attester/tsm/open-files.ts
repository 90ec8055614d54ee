import { mkdir } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { isThere } from '@dstack-cloud/files';
import { AttestationError } from '../../errors.ts';
import type { DeviceFiles } from '../device-files.ts';
import { connectVsock } from '../native/vsock.ts';
import { directoryFiles } from './directory-files.ts';
import { EndpointFiles } from './endpoint-files.ts';

const UNIX = 'unix:';
/** Context id and port of a vsock listener; 2 is the host (vsock(7)). */
const VSOCK = /^vsock:(\d{1,10}):(\d{1,10})$/;
const ENTRY = 'com.intel.dcap';
const PROVIDER_WAITS_MS = [1, 5, 20, 100, 500];

/** Whether a location is an endpoint; both forms have the same files. */
export function isEndpoint(location: string): boolean {
  return location.startsWith(UNIX) || VSOCK.test(location);
}

/** The endpoint at `unix:PATH` or `vsock:CID:PORT`. */
export function openEndpoint(location: string, timeoutMs: number): DeviceFiles {
  const [, cid, port] = VSOCK.exec(location) ?? [];
  const open = async (): Promise<Socket> =>
    cid === undefined || port === undefined
      ? await connectUnix(location.slice(UNIX.length))
      : await connectVsock(Number(cid), Number(port));
  return new EndpointFiles(location, open, timeoutMs);
}

function connectUnix(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
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
