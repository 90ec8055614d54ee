import { join } from 'node:path';

/** Every path of one machine. Sockets lie in a short run folder, because a socket path has 107 bytes at most. */
export interface CvmPaths {
  readonly dir: string;
  /** The host-shared files: what the host hands over, all of it untrusted or measured by the guest. */
  readonly shared: string;
  /** Stands for the machine's own disk. */
  readonly guest: string;
  readonly work: string;
  /** The data disk: all that outlives the machine's other files. */
  readonly data: string;
  readonly logs: string;
  readonly containerLogs: string;
  readonly serial: string;
  readonly guestConfig: string;
  readonly teeState: string;
  /** Of a virtual machine: what it keeps, encrypted by the guest. */
  readonly dataDisk: string;
  /** Of a virtual machine: the host-shared files of this boot, as a disk. */
  readonly sharedDisk: string;
  /** Of a virtual machine with a software TPM: the TPM's state. */
  readonly tpm: string;
}

/** Paths below the folder of a machine. */
export function cvmPaths(dir: string): CvmPaths {
  const guest = join(dir, 'guest');
  const work = join(guest, 'dstack');
  const logs = join(dir, 'logs');
  return {
    dir,
    shared: join(dir, 'shared'),
    guest,
    work,
    data: join(work, 'persistent'),
    logs,
    containerLogs: join(logs, 'containers'),
    serial: join(logs, 'serial.log'),
    guestConfig: join(dir, 'guest.json'),
    teeState: join(dir, 'tee-state.json'),
    dataDisk: join(dir, 'data.img'),
    sharedDisk: join(dir, 'shared.img'),
    tpm: join(dir, 'tpm'),
  };
}

/** Sockets of one run of a machine, in its run folder. */
export interface RunPaths {
  readonly dir: string;
  readonly tsm: string;
  readonly dstack: string;
  readonly tappd: string;
  readonly hostApi: string;
}

export function runPaths(runDir: string): RunPaths {
  return {
    dir: runDir,
    tsm: join(runDir, 'tsm.sock'),
    dstack: join(runDir, 'dstack.sock'),
    tappd: join(runDir, 'tappd.sock'),
    hostApi: join(runDir, 'host.sock'),
  };
}
