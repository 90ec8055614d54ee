import { join } from 'node:path';
import { AppError, readFileBounded, table, writeFileAtomic } from '@dstack-cloud/app';
import type { ProcessIdentity } from '@dstack-cloud/files';
import { z } from 'zod';
import { VmmError } from '../errors.ts';

export const STATE_FILE = 'vm-state.json';
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
  /** How a virtual machine runs; null for the process driver and before the first start. */
  readonly vm: VmRun | null;
}

/** What was found out when a virtual machine was started. */
export interface VmRun {
  readonly acceleration: 'kvm' | 'tcg';
  /** Why it is not KVM; null when it is. */
  readonly no_kvm: string | null;
  /** Processor that the guest sees, as QEMU names it; with KVM also what this host has. Empty before this was recorded. */
  readonly cpu: string;
  readonly qemu_version: string;
  readonly vsock: 'vhost-user' | 'vhost';
  /** SHA-256 of the image's list of files, hex. */
  readonly os_image_hash: string;
  /** How often it ended by itself and was started again in this run. */
  readonly restarts: number;
}

const stateSchema: z.ZodType<CvmState> = z.strictObject({
  status: z.enum(['preparing', 'running', 'failed', 'stopped']),
  supervisor: identity.nullable(),
  run_dir: z.string().nullable(),
  boot_progress: z.string(),
  error: z.string().nullable(),
  instance_id: z.string().nullable(),
  urls: table(z.string()),
  ports: table(z.int()),
  started_at: z.string().nullable(),
  running_at: z.string().nullable(),
  stopped_at: z.string().nullable(),
  events: z.array(z.strictObject({ event: z.string(), body: z.string(), timestamp: z.int() })).max(64),
  vm: z
    .strictObject({
      acceleration: z.enum(['kvm', 'tcg']),
      no_kvm: z.string().nullable(),
      cpu: z.string().default(''),
      qemu_version: z.string(),
      vsock: z.enum(['vhost-user', 'vhost']),
      os_image_hash: z.string(),
      restarts: z.int().nonnegative(),
    })
    .nullable()
    .default(null),
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
  vm: null,
};

/** Longest texts of the guest that the state keeps, bytes as JSON: the file must stay readable whatever they are. */
const MAX_PROGRESS_BYTES = 2 * 1024;
const MAX_ERROR_BYTES = 16 * 1024;
const MAX_EVENTS_BYTES = 64 * 1024;

/**
 * Reads the state file of the machine in `dir`; only a missing file is the initial state.
 *
 * @throws VmmError `damaged` when it cannot be read or understood
 */
export async function readState(dir: string): Promise<CvmState> {
  const path = join(dir, STATE_FILE);
  let bytes: Uint8Array;
  try {
    bytes = await readFileBounded(path, MAX_STATE_BYTES, { noFollow: true });
  } catch (cause) {
    if (cause instanceof AppError && cause.code === 'file-missing') return INITIAL_STATE;
    throw new VmmError('damaged', (cause as Error).message, { cause });
  }
  try {
    return stateSchema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
  } catch (cause) {
    throw new VmmError('damaged', `${path} is damaged`, { cause });
  }
}

/** Replaces the state file atomically; what the guest said is cut to what the file has room for. */
export async function writeState(dir: string, state: CvmState): Promise<void> {
  const text = `${JSON.stringify(bounded(state), null, 2)}\n`;
  await writeFileAtomic(join(dir, STATE_FILE), new TextEncoder().encode(text), { mode: 0o600 });
}

function bounded(state: CvmState): CvmState {
  const events: CvmState['events'][number][] = [];
  let left = MAX_EVENTS_BYTES;
  // The newest say most.
  for (const event of state.events.toReversed()) {
    left -= jsonBytes(event);
    if (left < 0) break;
    events.unshift(event);
  }
  return {
    ...state,
    boot_progress: clip(state.boot_progress, MAX_PROGRESS_BYTES),
    error: state.error === null ? null : clip(state.error, MAX_ERROR_BYTES),
    events,
  };
}

/** The longest beginning that takes so many bytes: JSON writes a control character as six. */
function clip(text: string, max: number): string {
  if (jsonBytes(text) <= max) return text;
  let bytes = jsonBytes('…');
  let kept = '';
  for (const character of text) {
    bytes += jsonBytes(character) - 2;
    if (bytes > max) break;
    kept += character;
  }
  return `${kept}…`;
}

function jsonBytes(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value));
}
