import { readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import { toHex, utf8Text } from '@dstack-cloud/encoding';
import { SimulatorError } from '../errors.ts';

const MAX_STATE_BYTES = 64 * 1024;

/** What a simulated machine keeps over its boots: for people and tests to look at, registers never come back. */
interface MachineState {
  readonly simulated: true;
  readonly machine: string;
  readonly image: string;
  /** Number of this boot, from 1. */
  readonly boot: number;
  /** Registers of this boot, hex. */
  readonly mrtd: string;
  readonly rtmrs: readonly string[];
}

/** The state file of a machine; every change is written whole (write, fsync, rename). */
export interface StateFile {
  readonly boot: number;
  save(rtmrs: readonly Uint8Array[]): Promise<void>;
}

/**
 * Opens the state for a new boot and counts it.
 * @throws SimulatorError `state` when the file is of another machine or cannot be read
 */
export async function openStateFile(
  path: string,
  identity: { machine: string; image: string; mrTd: Uint8Array; rtmrs: readonly Uint8Array[] },
): Promise<StateFile> {
  const before = await readState(path);
  if (before && before.machine !== identity.machine) {
    throw new SimulatorError(
      'state',
      `${path} is the state of machine "${before.machine}", not "${identity.machine}"; use another --state`,
    );
  }
  const boot = (before?.boot ?? 0) + 1;
  const save = async (rtmrs: readonly Uint8Array[]): Promise<void> => {
    const state: MachineState = {
      simulated: true,
      machine: identity.machine,
      image: identity.image,
      boot,
      mrtd: toHex(identity.mrTd),
      rtmrs: rtmrs.map(toHex),
    };
    await writeFileAtomic(path, `${JSON.stringify(state, null, 2)}\n`);
  };
  try {
    await save(identity.rtmrs);
  } catch (cause) {
    throw new SimulatorError('state', `Cannot write ${path}: ${(cause as Error).message}`, { cause });
  }
  return { boot, save };
}

async function readState(path: string): Promise<{ machine: string; boot: number } | undefined> {
  let text: string;
  try {
    text = utf8Text(await readFileBounded(path, MAX_STATE_BYTES));
  } catch (cause) {
    if ((cause as { code?: unknown }).code === 'file-missing') return undefined;
    throw new SimulatorError('state', `Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  try {
    const { machine, boot } = JSON.parse(text) as Record<string, unknown>;
    if (typeof machine === 'string' && Number.isSafeInteger(boot)) return { machine, boot: boot as number };
  } catch {
    // Told below.
  }
  throw new SimulatorError('state', `${path} is no state of a simulated machine; remove it to start over`);
}
