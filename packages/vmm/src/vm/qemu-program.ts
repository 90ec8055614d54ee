import { VmmError } from '../errors.ts';
import { findProgram } from './find-program.ts';
import { runTool } from './run-tool.ts';

const TIMEOUT_MS = 20_000;
/** The first with `hpet` as a property of the machine and memory backends for q35 that this driver uses. */
const OLDEST = [6, 2] as const;

/** A QEMU that this driver can use. */
export interface QemuProgram {
  readonly path: string;
  /** `7.2.22`: as the measurement rules want it. */
  readonly version: string;
}

/** Finds QEMU and asks for its version. @throws VmmError `program_missing` */
export async function qemuProgram(name: string): Promise<QemuProgram> {
  const path = findProgram(name);
  if (path === undefined)
    throw new VmmError(
      'program_missing',
      `There is no ${name}: install QEMU for x86-64 (Debian: apt-get install qemu-system-x86)`,
      { expected: `${name} on PATH`, found: 'no such program' },
    );
  const { stdout, stderr } = await runTool(path, ['--version'], TIMEOUT_MS);
  const version = /\bversion (\d+\.\d+(?:\.\d+)?)/.exec(stdout)?.[1];
  if (version === undefined)
    throw new VmmError('program_missing', `${path} does not say its version: it is no QEMU that works here`, {
      expected: 'QEMU emulator version …',
      found: (stdout || stderr).split('\n')[0] || 'no output',
    });
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]))
    throw new VmmError('program_missing', `${path} is too old: install a newer QEMU`, {
      expected: `version ${OLDEST.join('.')} or later`,
      found: version,
    });
  return { path, version };
}

/** The oldest whose TDs the measurement rules describe, and the one that simulated TDs of older ones are measured as. */
const OLDEST_MEASURED = 8;
const MEASURED_AS = '9.1.0';

/**
 * The version by which a TD under this QEMU is measured. An older QEMU starts no TD; a simulated one under it is measured as
 * a later QEMU would.
 */
export function measuredVersion({ version }: QemuProgram): string {
  return startsTds(version) ? version : MEASURED_AS;
}

/** Whether a QEMU can start a TD whose measurements can be computed. */
export function startsTds(version: string): boolean {
  return Number(version.split('.')[0]) >= OLDEST_MEASURED;
}
