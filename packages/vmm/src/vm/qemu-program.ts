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
