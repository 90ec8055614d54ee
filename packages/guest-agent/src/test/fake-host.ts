import type { BlockDevice } from '../boot/disk/block-devices.ts';
import type { MachineHost } from '../boot/disk/machine-host.ts';

interface FakeMachine {
  readonly devices?: readonly BlockDevice[];
  readonly commandLine?: string;
  /** Paths that exist. */
  readonly paths?: readonly string[];
  /** Content of files and devices; everything else is empty. */
  readonly content?: Readonly<Record<string, Uint8Array>>;
  /** Output, or the status, of a program. */
  readonly ran?: (program: string, args: readonly string[]) => string | number | undefined;
}

export const DISK: BlockDevice = {
  name: 'vda',
  kind: 'disk',
  serial: undefined,
  partitionName: undefined,
  partitionUuid: undefined,
  disk: undefined,
  number: undefined,
  start: 0,
  readOnly: false,
  size: 4 * 1024 ** 3,
};

/** A machine that only remembers what was done to it. */
export function fakeHost(machine: FakeMachine = {}): MachineHost & { readonly commands: string[] } {
  const commands: string[] = [];
  return {
    commands,
    run: async (program, args) => {
      commands.push([program, ...args].join(' '));
      const result = machine.ran?.(program, args) ?? 0;
      return typeof result === 'number'
        ? { code: result, stdout: '', stderr: result === 0 ? '' : 'it failed' }
        : { code: 0, stdout: result, stderr: '' };
    },
    read: async (path, offset, length) =>
      (machine.content?.[path] ?? new Uint8Array(0)).subarray(offset, offset + length),
    resizePartition: async (disk, { number, start, size }) => {
      commands.push(`resize ${disk} ${number}: ${size} bytes from ${start}`);
    },
    isThere: (path) => machine.paths?.includes(path) ?? false,
    commandLine: async () => (machine.commandLine ?? '').split(' '),
    blockDevices: async () => machine.devices ?? [],
  };
}
