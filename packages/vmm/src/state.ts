import { join } from 'node:path';
import { readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import { z } from 'zod';
import { VmmError } from './errors.ts';
import type { ProcessIdentity } from './process-identity.ts';

const MAX_STATE_BYTES = 256 * 1024;
const identity = z.strictObject({ pid: z.int().positive(), start_time: z.string() });

/** `vm-state.json`: what a machine does now. Only its supervisor writes it while it lives. */
export interface CvmState {
  readonly status: 'preparing' | 'running' | 'failed' | 'stopped';
  readonly supervisor: ProcessIdentity | null;
  /** Short folder with the sockets: a Unix socket path is limited to 107 bytes. */
  readonly run_dir: string | null;
  readonly boot_progress: string;
  /** The last `boot.error` notification, or what the failed step printed. */
  readonly error: string | null;
  readonly instance_id: string | null;
  readonly urls: Readonly<Record<string, string>>;
  readonly ports: Readonly<Record<string, number>>;
  readonly started_at: string | null;
  readonly running_at: string | null;
  readonly stopped_at: string | null;
  readonly events: readonly { readonly event: string; readonly body: string; readonly timestamp: number }[];
}

const stateSchema: z.ZodType<CvmState> = z.strictObject({
  status: z.enum(['preparing', 'running', 'failed', 'stopped']),
  supervisor: identity.nullable(),
  run_dir: z.string().nullable(),
  boot_progress: z.string(),
  error: z.string().nullable(),
  instance_id: z.string().nullable(),
  urls: z.record(z.string(), z.string()),
  ports: z.record(z.string(), z.int()),
  started_at: z.string().nullable(),
  running_at: z.string().nullable(),
  stopped_at: z.string().nullable(),
  events: z.array(z.strictObject({ event: z.string(), body: z.string(), timestamp: z.int() })).max(64),
});

/** The state of a machine that was never started. */
export const INITIAL_STATE: CvmState = {
  status: 'stopped',
  supervisor: null,
  run_dir: null,
  boot_progress: '',
  error: null,
  instance_id: null,
  urls: {},
  ports: {},
  started_at: null,
  running_at: null,
  stopped_at: null,
  events: [],
};

/** Reads the state file of the machine in `dir`; a missing file is the initial state. */
export async function readState(dir: string): Promise<CvmState> {
  const path = join(dir, 'vm-state.json');
  let bytes: Uint8Array;
  try {
    bytes = await readFileBounded(path, MAX_STATE_BYTES);
  } catch {
    return INITIAL_STATE;
  }
  try {
    return stateSchema.parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch (error) {
    throw new VmmError(
      'bad_manifest',
      `${path} is damaged: stop the machine's processes and remove the file`,
      {
        cause: error,
      },
    );
  }
}

/** Replaces the state file atomically. */
export async function writeState(dir: string, state: CvmState): Promise<void> {
  const text = `${JSON.stringify(state, null, 2)}\n`;
  await writeFileAtomic(join(dir, 'vm-state.json'), new TextEncoder().encode(text), { mode: 0o600 });
}
