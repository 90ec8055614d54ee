import { AttestationError } from '../errors.ts';
import { DeviceFault, type DeviceFiles } from './device-files.ts';
import { extendRtmrByIoctl } from './native/tdx-guest.ts';
import { directoryFiles } from './tsm/directory-files.ts';
import { isEndpoint, openEndpoint } from './tsm/open-files.ts';

const DIGEST_BYTES = 48;
/** Registers of the guest; 0 and 1 belong to the firmware. */
const WRITABLE = [2, 3];
const IOCTL = 'ioctl:';

/** What extends a runtime measurement register. */
export interface RtmrRegisters {
  /** RTMR = SHA384(RTMR ‖ digest). @throws AttestationError `device` */
  extend(index: number, digest: Uint8Array): Promise<void>;
  /** The register's value, 48 bytes; undefined where the platform does not show it. @throws AttestationError `device` */
  read(index: number): Promise<Uint8Array | undefined>;
  close(): Promise<void>;
}

/** Registers at a sysfs folder, at `unix:PATH`, or through `ioctl:/dev/tdx_guest`. */
export function openRtmrs(location: string, timeoutMs: number): RtmrRegisters {
  if (location.startsWith(IOCTL)) {
    const device = location.slice(IOCTL.length);
    return {
      extend: async (index, digest) => await extendRtmrByIoctl(device, checked(index, digest), digest),
      read: async () => undefined,
      close: async () => {},
    };
  }
  const files = isEndpoint(location) ? openEndpoint(location, timeoutMs) : directoryFiles(location);
  return {
    extend: (index, digest) => extendFile(files, index, digest),
    read: (index) => readFile(files, index),
    close: () => files.close(),
  };
}

async function readFile(files: DeviceFiles, index: number): Promise<Uint8Array | undefined> {
  const file = `rtmr${index}:sha384`;
  let value: Uint8Array;
  try {
    value = await files.read(file, DIGEST_BYTES);
  } catch (cause) {
    if (!(cause instanceof DeviceFault)) throw cause;
    throw new AttestationError('device', `Cannot read ${file}: ${cause.message}`, {
      found: cause.errno,
      cause,
    });
  }
  if (value.length === DIGEST_BYTES) return value;
  throw new AttestationError('device', `${file} is not 48 bytes`, { found: `${value.length}` });
}

async function extendFile(files: DeviceFiles, index: number, digest: Uint8Array): Promise<void> {
  const file = `rtmr${checked(index, digest)}:sha384`;
  try {
    await files.write(file, digest);
  } catch (cause) {
    if (!(cause instanceof DeviceFault)) throw cause;
    throw new AttestationError('device', `Cannot extend ${file}: ${cause.message}`, {
      found: cause.errno,
      cause,
    });
  }
}

function checked(index: number, digest: Uint8Array): number {
  if (!WRITABLE.includes(index)) throw new AttestationError('unsupported', `RTMR${index} is not the guest's`);
  if (digest.length !== DIGEST_BYTES) throw new AttestationError('malformed', 'RTMRs take 48-byte digests');
  return index;
}
