import { spawn } from 'node:child_process';
import { open, readFile } from 'node:fs/promises';
import { type PartitionExtent, resizePartition } from '@dstack-cloud/attestation/attester';
import { isThere } from '@dstack-cloud/files';
import { GuestError } from '../../errors.ts';
import { lastWords } from '../../last-words.ts';
import { type BlockDevice, blockDevices } from './block-devices.ts';

/** Longest that one program of the boot may take. A file system check of a large disk takes minutes. */
const TIMEOUT_MS = 30 * 60_000;
const MAX_OUTPUT = 256 * 1024;

/** Result of a program that ended by itself. */
interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What the steps of a boot do to the machine; a test puts its own in this place. */
export interface MachineHost {
  /** Runs a program without a shell. A secret goes by `input`, never by an argument. */
  run(program: string, args: readonly string[], input?: Uint8Array): Promise<Ran>;
  /** Bytes of a file or device; fewer when it ends before. */
  read(path: string, offset: number, length: number): Promise<Uint8Array>;
  isThere(path: string): boolean;
  /** Has the kernel take a partition for larger. */
  resizePartition(disk: string, partition: PartitionExtent): Promise<void>;
  /** Words of the measured kernel command line. */
  commandLine(): Promise<readonly string[]>;
  blockDevices(): Promise<readonly BlockDevice[]>;
}

/** The machine that this process runs on. */
export const thisMachine: MachineHost = {
  isThere,
  resizePartition,
  commandLine: async () => (await readFile('/proc/cmdline', 'utf8')).trim().split(/\s+/),
  blockDevices: () => blockDevices(),
  run: async (program, args, input) =>
    await new Promise<Ran>((resolve, reject) => {
      const child = spawn(program, args, {
        stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
        timeout: TIMEOUT_MS,
      });
      const [stdout, stderr] = [collect(child.stdout!), collect(child.stderr!)];
      child.once('error', reject);
      child.once('close', (code, signal) => {
        if (code === null) reject(new Error(`${program} was ended by ${signal ?? 'a signal'}`));
        else resolve({ code, stdout: stdout(), stderr: stderr() });
      });
      if (input !== undefined) {
        // A program that does not read its input says why by its status.
        child.stdin!.on('error', () => undefined);
        child.stdin!.end(input);
      }
    }),
  read: async (path, offset, length) => {
    const handle = await open(path, 'r');
    try {
      const bytes = new Uint8Array(length);
      let done = 0;
      while (done < length) {
        const { bytesRead } = await handle.read(bytes, done, length - done, offset + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
      return bytes.subarray(0, done);
    } finally {
      await handle.close();
    }
  },
};

function collect(stream: NodeJS.ReadableStream): () => string {
  const chunks: Buffer[] = [];
  let size = 0;
  stream.on('data', (chunk: Buffer) => {
    if (size < MAX_OUTPUT) chunks.push(chunk);
    size += chunk.length;
  });
  return () => Buffer.concat(chunks).toString('utf8');
}

interface RunLimits {
  readonly input?: Uint8Array;
  /** Statuses that are no failure. */
  readonly good?: readonly number[];
}

/** Runs a program that must end with one of these statuses. @throws GuestError `disk-failed` with what it said */
export async function mustRun(
  host: MachineHost,
  program: string,
  args: readonly string[],
  options: RunLimits = {},
): Promise<string> {
  return (await runOrFail(host, program, args, options)).stdout;
}

/** The same, for whoever needs to know which of them. @throws GuestError `disk-failed` */
export async function runOrFail(
  host: MachineHost,
  program: string,
  args: readonly string[],
  { input, good = [0] }: RunLimits = {},
): Promise<Ran> {
  const ran = await host.run(program, args, input).catch((cause: unknown) => {
    throw new GuestError('disk-failed', `${program} cannot be run`, { cause });
  });
  if (good.includes(ran.code)) return ran;
  const said = lastWords(ran.stderr);
  throw new GuestError(
    'disk-failed',
    `${program} ended with status ${ran.code}${said === '' ? '' : `: ${said}`}`,
  );
}
