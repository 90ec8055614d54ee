import { join } from 'node:path';
import { readFileBounded, table, writeFileAtomic } from '@dstack-cloud/app';
import { z } from 'zod';
import { CliError } from '../errors.ts';

const MAX_STATE_BYTES = 4 * 1024 * 1024;
const MAX_REVISIONS = 100;

/** Status while an update is under way; everything else in the file is still the revision of before. */
export const UPDATING = 'UPDATING';

/** One deployed revision, for comparison and roll-back. */
interface Revision {
  readonly compose_hash: string;
  readonly os_image_hash: string;
  readonly time: string;
}

/** `state.json` of a project: what was deployed last. */
export interface ProjectState {
  readonly schema: number;
  readonly platform: string;
  readonly instance_name: string;
  readonly project: string;
  readonly zone: string;
  readonly external_ip: string;
  readonly internal_ip: string;
  readonly status: string;
  readonly created_at: string;
  readonly updated_at: string;
  readonly boot_image: string;
  readonly app_id: string;
  readonly instance_id: string;
  readonly compose_hash: string;
  readonly os_image_hash: string;
  /** Platform nitro: PCR 0, 1, 2 and 8 of the deployed image. */
  readonly registers?: Readonly<Record<string, string>> | undefined;
  /** Platform local: folder of the machine. */
  readonly machine_dir: string;
  /** Platform local: a second machine while one replaces the other; this one is to be removed. */
  readonly other_machine_dir?: string | undefined;
  readonly urls: Readonly<Record<string, string>>;
  /** Platform gcp: the disk with the machine's files, the data disk, the bucket of uploads. */
  readonly shared_image?: string | undefined;
  readonly data_image?: string | undefined;
  readonly bucket?: string | undefined;
  /** Platform nitro on AWS: where the parent instance is, its id, and the token of a launch under way. */
  readonly region?: string | undefined;
  readonly parent_instance?: string | undefined;
  readonly launch_token?: string | undefined;
  readonly revisions: readonly Revision[];
}

const text = z.string().default('');
const schema: z.ZodType<ProjectState> = z.looseObject({
  schema: z.int().default(1),
  platform: z.string().default('gcp'),
  instance_name: text,
  project: text,
  zone: text,
  external_ip: text,
  internal_ip: text,
  status: text,
  created_at: text,
  updated_at: text,
  boot_image: text,
  app_id: text,
  instance_id: text,
  compose_hash: text,
  os_image_hash: text,
  registers: table(z.string()).optional(),
  machine_dir: text,
  other_machine_dir: z.string().optional(),
  urls: table(z.string()).default({}),
  shared_image: z.string().optional(),
  data_image: z.string().optional(),
  bucket: z.string().optional(),
  region: z.string().optional(),
  parent_instance: z.string().optional(),
  launch_token: z.string().optional(),
  revisions: z
    .array(z.looseObject({ compose_hash: z.string(), os_image_hash: z.string(), time: z.string() }))
    .default([]),
}) as unknown as z.ZodType<ProjectState>;

/**
 * Reads `state.json`, or undefined when there is none.
 * @throws CliError `state_damaged` when it cannot be read: that is not the same as none
 */
export async function readProjectState(directory: string): Promise<ProjectState | undefined> {
  const path = join(directory, 'state.json');
  const damaged = (why: string, cause?: unknown): CliError =>
    new CliError('state_damaged', `${path} ${why}`, {
      ...(cause === undefined ? {} : { cause }),
      hint: `Restore it from a copy, or move it away (mv ${path} ${path}.bad): the next command finds the project's machine without it`,
    });
  let bytes: Uint8Array;
  try {
    // A link could lead anywhere, and is none of ours.
    bytes = await readFileBounded(path, MAX_STATE_BYTES, { noFollow: true });
  } catch (error) {
    if ((error as { code?: string }).code === 'file-missing') return undefined;
    throw damaged('cannot be read', error);
  }
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw damaged('is damaged: it is no JSON');
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw damaged(`is damaged:\n${z.prettifyError(result.error)}`);
}

/** Replaces `state.json`; members that this version does not know stay. */
export async function writeProjectState(directory: string, state: ProjectState): Promise<void> {
  const kept = { ...state, revisions: state.revisions.slice(-MAX_REVISIONS) };
  await writeFileAtomic(join(directory, 'state.json'), `${JSON.stringify(kept, null, 2)}\n`, { mode: 0o644 });
}
