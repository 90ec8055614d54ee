import { join } from 'node:path';
import { AppError, readFileBounded, table, writeFileAtomic } from '@dstack-cloud/app';
import type { ProcessIdentity } from '@dstack-cloud/files';
import { z } from 'zod';
import { VmmError } from '../errors.ts';
import { type EnclaveSettings, enclaveSettingsSchema } from './enclave-settings.ts';
import { isImagesDisk } from './images-disk-name.ts';
import { type VmSettings, vmSettingsSchema } from './vm-settings.ts';

export const MANIFEST_FILE = 'vm-manifest.json';
const MAX_MANIFEST_BYTES = 256 * 1024;
const port = z.int().min(0).max(65_535);
const identity = z.strictObject({ pid: z.int().positive(), start_time: z.string() });

/** Names of machines and of images. */
const CVM_NAME = /^[A-Za-z0-9_. @~!$^()-]{1,128}$/;
const IMAGE_NAME = /^(?!.*\.\.)[A-Za-z0-9_.-]{1,64}$/;

/** Whether a machine takes this name. */
export function isMachineName(name: string): boolean {
  return CVM_NAME.test(name);
}

/** Whether this can be the name of an OS image: it is also part of paths. */
export function isImageName(name: string): boolean {
  return IMAGE_NAME.test(name);
}

/** `vm-manifest.json`: what a machine is, as opposed to what it does now (`vm-state.json`). */
export type CvmManifest = ProcessManifest | VmManifest | EnclaveManifest;

/** The guest's programs as processes of this host. */
export interface ProcessManifest extends CommonManifest {
  readonly driver: 'process';
  readonly tee: SimulatedTee;
  readonly runner: {
    readonly engine: 'auto' | 'docker' | 'podman' | 'process';
    readonly env: Readonly<Record<string, string>>;
    /** Variables by which the client of the engine finds the daemon that was meant at the deployment. */
    readonly engine_env: Readonly<Record<string, string>>;
    /** Name of the file with archives of container images; null for none. */
    readonly images_disk: string | null;
  };
}

/** An OS image in a virtual machine. */
export interface VmManifest extends CommonManifest {
  readonly driver: 'vm';
  readonly tee:
    | SimulatedTee
    | { readonly kind: 'tdx'; readonly qgs_port: number }
    | { readonly kind: 'none' };
  readonly vm: VmSettings;
}

/** An enclave image, whose files run as processes of this host. */
export interface EnclaveManifest extends CommonManifest {
  readonly driver: 'enclave';
  readonly tee: { readonly kind: 'simulated-nitro'; readonly seed_file: string; readonly machine: string };
  readonly enclave: EnclaveSettings;
}

/** The simulated hardware that a machine runs on. */
interface SimulatedTee {
  readonly kind: 'simulated-tdx';
  readonly seed_file: string;
  readonly machine: string;
}

interface CommonManifest {
  readonly schema: 1;
  readonly id: string;
  readonly name: string;
  readonly app_id: string;
  readonly image: string;
  readonly created_at_ms: number;
  readonly attestation: { readonly root_ca_tdx: string | null; readonly pccs_url: string | null };
  /** `from` on the host to `to` in the machine. */
  readonly port_map: readonly PortMapping[];
  readonly agent_port: { readonly address: string; readonly from: number; readonly fixed: boolean };
  /** The machine stops when this process is gone: a demo's machines end with the demo. */
  readonly owner: ProcessIdentity | null;
  /** Folder of the project it was deployed from; information only. */
  readonly project: string | null;
}

/** A port of the host that nobody asked for by number (`fixed` false) may change at a start. */
export interface PortMapping {
  readonly address: string;
  readonly protocol: 'tcp' | 'udp';
  readonly from: number;
  readonly to: number;
  readonly fixed: boolean;
}

const simulatedTee = z.strictObject({
  kind: z.literal('simulated-tdx'),
  seed_file: z.string(),
  machine: z.string(),
});
const common = {
  schema: z.literal(1),
  id: z.uuid(),
  name: z.string().regex(CVM_NAME),
  app_id: z.string().regex(/^[0-9a-f]{40}$/),
  image: z.string().regex(IMAGE_NAME),
  created_at_ms: z.int().nonnegative(),
  attestation: z.strictObject({ root_ca_tdx: z.string().nullable(), pccs_url: z.string().nullable() }),
  port_map: z
    .array(
      z.strictObject({
        address: z.string(),
        protocol: z.enum(['tcp', 'udp']),
        from: port,
        to: port,
        fixed: z.boolean(),
      }),
    )
    .max(64),
  agent_port: z.strictObject({ address: z.string(), from: port, fixed: z.boolean() }),
  owner: identity.nullable(),
  project: z.string().nullable(),
};

const manifestSchema: z.ZodType<CvmManifest> = z.discriminatedUnion('driver', [
  z.strictObject({
    ...common,
    driver: z.literal('process'),
    tee: simulatedTee,
    runner: z.strictObject({
      engine: z.enum(['auto', 'docker', 'podman', 'process']),
      env: table(z.string()),
      engine_env: table(z.string()).default({}),
      images_disk: z
        .string()
        .refine(isImagesDisk, 'must be the name of a disk with images')
        .nullable()
        .default(null),
    }),
  }),
  z.strictObject({
    ...common,
    driver: z.literal('vm'),
    tee: z.discriminatedUnion('kind', [
      simulatedTee,
      z.strictObject({ kind: z.literal('tdx'), qgs_port: port }),
      z.strictObject({ kind: z.literal('none') }),
    ]),
    vm: vmSettingsSchema,
  }),
  z.strictObject({
    ...common,
    driver: z.literal('enclave'),
    tee: z.strictObject({ kind: z.literal('simulated-nitro'), seed_file: z.string(), machine: z.string() }),
    enclave: enclaveSettingsSchema,
  }),
]);

/** Reads and checks the manifest of the machine in `dir`. Throws `not_found` when there is none, else `bad_manifest`. */
export async function readManifest(dir: string): Promise<CvmManifest> {
  const path = join(dir, MANIFEST_FILE);
  let text: string;
  try {
    const bytes = await readFileBounded(path, MAX_MANIFEST_BYTES, { noFollow: true });
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    if (cause instanceof AppError && cause.code === 'file-missing')
      throw new VmmError('not_found', `There is no machine in ${dir}: ${reason(cause)}`, { cause });
    throw new VmmError('bad_manifest', `${path} cannot be read: ${reason(cause)}`, { cause });
  }
  return parseManifest(text, path);
}

/** Parses the text of a manifest; `path` is for the message. */
export function parseManifest(text: string, path: string): CvmManifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new VmmError('bad_manifest', `${path} is no JSON: ${reason(error)}`, { cause: error });
  }
  const result = manifestSchema.safeParse(value);
  if (!result.success)
    throw new VmmError('bad_manifest', `${path} is not valid:\n${z.prettifyError(result.error)}`);
  return result.data;
}

/** Writes the manifest; it holds no secret but names where the platform's seed lies. */
export async function writeManifest(dir: string, manifest: CvmManifest): Promise<void> {
  const text = `${JSON.stringify(manifest, null, 2)}\n`;
  await writeFileAtomic(join(dir, MANIFEST_FILE), new TextEncoder().encode(text), { mode: 0o600 });
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
