import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { HOST_SHARED_LIMITS, type HostSharedName, writeFileAtomic } from '@dstack-cloud/app';
import { VmmError } from './errors.ts';
import { type CvmManifest, parseManifest, writeManifest } from './manifest.ts';
import { requireFreePort } from './ports.ts';
import type { ProcessIdentity } from './process-identity.ts';
import { INITIAL_STATE, writeState } from './state.ts';

/** The host-shared files by name; only these names are known (chapter 30 section 3). */
export type HostShared = Readonly<Partial<Record<HostSharedName, Uint8Array>>>;

export interface CreateOptions {
  /** Folder that will hold the machine; its parent is made when missing. */
  readonly dir: string;
  readonly name: string;
  readonly appId: string;
  /** Name of the OS image; decides the simulated MRTD and RTMR0 to 2. */
  readonly image: string;
  readonly shared: HostShared;
  /** 32-byte seed of the simulated hardware; made when missing. */
  readonly seedFile: string;
  readonly machine?: string;
  /** PEM or DER of the root that the guest trusts for TDX quotes; null for Intel's. */
  readonly rootCaTdx?: string | null;
  readonly pccsUrl?: string | null;
  /** Host port 0 means any free one. */
  readonly ports?: readonly { host: number; guest: number; address?: string }[];
  readonly agentPort?: number;
  readonly engine?: CvmManifest['runner']['engine'];
  readonly env?: Readonly<Record<string, string>>;
  readonly owner?: ProcessIdentity | null;
  readonly project?: string | null;
}

/**
 * Makes a machine, not started. All is checked before anything is written, and a failure half way leaves no folder.
 * Throws `already_exists`, `bad_option`, `port_in_use`, `bad_manifest`.
 */
export async function createCvm(options: CreateOptions): Promise<CvmManifest> {
  const { dir } = options;
  if (existsSync(dir)) throw new VmmError('already_exists', `${dir} exists already`);
  const manifest = parseManifest(JSON.stringify(makeManifest(options)), join(dir, 'vm-manifest.json'));
  await checkChange(options.shared, manifest);
  await ensureSeed(options.seedFile);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  try {
    await writeShared(dir, options.shared);
    await writeState(dir, INITIAL_STATE);
    await writeManifest(dir, manifest);
  } catch (error) {
    await rm(dir, { recursive: true, force: true });
    throw error;
  }
  return manifest;
}

/**
 * Gives a stopped machine new host-shared files and settings; its id, its disk and its simulated hardware stay.
 * An `undefined` file is removed.
 */
export async function updateCvm(manifest: CvmManifest, options: CreateOptions): Promise<CvmManifest> {
  const wanted = makeManifest(options);
  const kept = wanted.port_map.map((mapping, index) => {
    const before = manifest.port_map[index];
    return !mapping.fixed && before?.to === mapping.to ? { ...mapping, from: before.from } : mapping;
  });
  const agent_port = wanted.agent_port.fixed ? wanted.agent_port : { ...manifest.agent_port, fixed: false };
  const next = parseManifest(
    JSON.stringify({
      ...wanted,
      id: manifest.id,
      created_at_ms: manifest.created_at_ms,
      tee: manifest.tee,
      port_map: kept,
      agent_port,
    }),
    join(options.dir, 'vm-manifest.json'),
  );
  await checkChange(options.shared, next);
  await writeShared(options.dir, options.shared);
  await writeManifest(options.dir, next);
  return next;
}

function makeManifest(options: CreateOptions): CvmManifest {
  return {
    schema: 1,
    driver: 'process',
    id: randomUUID(),
    name: options.name,
    app_id: options.appId,
    image: options.image,
    created_at_ms: Date.now(),
    tee: { kind: 'simulated-tdx', seed_file: options.seedFile, machine: options.machine ?? 'machine-0' },
    attestation: { root_ca_tdx: options.rootCaTdx ?? null, pccs_url: options.pccsUrl ?? null },
    port_map: (options.ports ?? []).map((mapping) => ({
      address: mapping.address ?? '127.0.0.1',
      protocol: 'tcp' as const,
      from: mapping.host,
      to: mapping.guest,
      fixed: mapping.host !== 0,
    })),
    agent_port: { address: '127.0.0.1', from: options.agentPort ?? 0, fixed: (options.agentPort ?? 0) !== 0 },
    runner: { engine: options.engine ?? 'auto', env: { ...options.env } },
    owner: options.owner ?? null,
    project: options.project ?? null,
  };
}

async function checkChange(shared: HostShared, manifest: CvmManifest): Promise<void> {
  for (const [name, bytes] of Object.entries(shared)) {
    const limit = (HOST_SHARED_LIMITS as Readonly<Record<string, number>>)[name];
    if (limit === undefined) throw new VmmError('bad_option', `${name} is no host-shared file`);
    if (bytes !== undefined && bytes.length > limit)
      throw new VmmError(
        'bad_option',
        `${name} has ${bytes.length} bytes; the guest takes ${limit} at most`,
        {
          expected: `at most ${limit} bytes`,
          found: `${bytes.length} bytes`,
        },
      );
  }
  if (shared['app-compose.json'] === undefined || shared['.sys-config.json'] === undefined)
    throw new VmmError('bad_option', 'A machine needs app-compose.json and .sys-config.json');
  for (const mapping of manifest.port_map)
    if (mapping.fixed) await requireFreePort(mapping.from, mapping.address);
  if (manifest.agent_port.fixed) await requireFreePort(manifest.agent_port.from, manifest.agent_port.address);
}

async function writeShared(dir: string, shared: HostShared): Promise<void> {
  await mkdir(join(dir, 'shared'), { recursive: true, mode: 0o700 });
  for (const name of Object.keys(HOST_SHARED_LIMITS)) {
    const path = join(dir, 'shared', name);
    const bytes = (shared as Readonly<Record<string, Uint8Array | undefined>>)[name];
    if (bytes === undefined) await rm(path, { force: true });
    else await writeFileAtomic(path, bytes, { mode: 0o600 });
  }
}

async function ensureSeed(path: string): Promise<void> {
  if (existsSync(path)) return;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeFile(path, randomBytes(32), { mode: 0o600, flag: 'wx' }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    },
  );
  await chmod(path, 0o600);
}
