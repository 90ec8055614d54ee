/** A file operation that the device refused, with the kernel's name for the reason. */
export class DeviceFault extends Error {
  readonly errno: string;

  constructor(errno: string, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'DeviceFault';
    this.errno = errno;
  }
}

/** The files of a TSM report entry or of the RTMR folder, wherever they are: a directory or an endpoint. */
export interface DeviceFiles {
  /** @throws DeviceFault; `EFBIG` for more than `max` bytes */
  read(file: string, max: number): Promise<Uint8Array>;
  /** Writes everything in one operation. @throws DeviceFault; `EIO` for a short write */
  write(file: string, data: Uint8Array): Promise<void>;
  /** Runs `body` while no other process uses the entry, as far as the platform can promise that. */
  exclusive<T>(body: () => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** The message and name of whatever a file operation threw. */
export function deviceFault(cause: unknown, what: string): DeviceFault {
  if (cause instanceof DeviceFault) return cause;
  const { code, message } = cause as NodeJS.ErrnoException;
  return new DeviceFault(typeof code === 'string' ? code : 'EIO', `${what}: ${message}`, { cause });
}
