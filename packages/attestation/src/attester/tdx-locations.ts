import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isThere } from '@dstack-cloud/files';
import { AttestationError } from '../errors.ts';
import type { PlatformPaths } from './detect-platform.ts';

const MAX_ENTRY_PATH = 240;
const DEFAULT_ENTRY = 'com.intel.dcap';
const ENTRY_VARIABLE = 'DCAP_TDX_QUOTE_CONFIGFS_PATH';
const QUOTE_SERVICE_FILE = '/etc/tdx-attest.conf';

/** Where the parts of this guest's TDX hardware are. */
export interface TdxLocations {
  readonly tsm: string;
  readonly rtmr: string;
  readonly ccel?: string;
}

/**
 * Configfs-tsm, else the host's quote service; registers by sysfs, else by ioctl.
 * @throws AttestationError `device`
 */
export function tdxLocations(
  paths: PlatformPaths,
  environment: Readonly<Record<string, string | undefined>> = process.env,
  quoteServiceFile: string = QUOTE_SERVICE_FILE,
): TdxLocations {
  return {
    tsm: quoteLocation(paths, environment[ENTRY_VARIABLE], quoteServiceFile),
    rtmr: isThere(paths.rtmrs) ? paths.rtmrs : `ioctl:${paths.tdxGuest}`,
    ...(isThere(paths.ccel) ? { ccel: paths.ccel } : {}),
  };
}

function quoteLocation(paths: PlatformPaths, configured: string | undefined, serviceFile: string): string {
  if (configured !== undefined) {
    if (configured.length < MAX_ENTRY_PATH && isThere(join(configured, 'provider'))) return configured;
    throw new AttestationError('device', `${ENTRY_VARIABLE} names no TSM report entry`, {
      found: configured,
    });
  }
  if (isThere(join(paths.tsmReports, DEFAULT_ENTRY)) || isThere(paths.tsmReports)) {
    return paths.tsmReports;
  }
  const port = quoteServicePort(serviceFile);
  if (port !== undefined) return `vsock:${port}`;
  throw new AttestationError(
    'device',
    `No way to a TDX quote: ${paths.tsmReports} is missing (Linux 6.7 or newer has it), and ${serviceFile} names no port`,
  );
}

/** `port = N` of the configuration of Intel's library; lines that start with # are comments. */
export function quoteServicePort(path: string): number | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8').slice(0, 65_536);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new AttestationError('device', `Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  for (const line of text.split('\n')) {
    const match = /^\s*port\s*=\s*(\d{1,10})\s*$/.exec(line);
    const port = Number(match?.[1]);
    if (match && port > 0 && port < 0xffff_ffff) return port;
  }
  return undefined;
}
