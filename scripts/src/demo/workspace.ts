import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Guard, listCvms, type ProcessIdentity, processIdentity, stopCvm } from '@dstack-cloud/vmm';
import { repository } from '../build/paths.ts';
import type { Cleanup } from './cleanup.ts';
import type { Chain } from './start-chain.ts';
import type { Platform } from './start-platform.ts';

/** The demo's folder; everything it makes lies below it. */
export interface Workspace {
  readonly directory: string;
  readonly programs: string;
  readonly projects: string;
  readonly machines: string;
  readonly seedFile: string;
  readonly rootFile: string;
  readonly keyFile: string;
  /** The machines stop when this process, the demo, is gone. */
  readonly owner: ProcessIdentity | null;
  /** Ends the demo's other processes when the demo is killed. */
  readonly guard: Guard;
}

export async function makeWorkspace(cleanup: Cleanup, programs: string, keep: boolean): Promise<Workspace> {
  // Programs started from here on are the bundles.
  process.env['DSTACK_BIN_DIR'] = programs;
  const directory = await mkdtemp(join(tmpdir(), 'dstack-demo-'));
  const guard = new Guard();
  const space: Workspace = {
    directory,
    programs,
    projects: join(directory, 'projects'),
    machines: join(directory, 'vm'),
    seedFile: join(directory, 'platform.seed'),
    rootFile: join(directory, 'simulated-root.pem'),
    keyFile: join(directory, 'owner.key'),
    owner: processIdentity(process.pid) ?? null,
    guard,
  };
  await mkdir(space.projects);
  await mkdir(space.machines);
  cleanup.add(async () => {
    if (!keep) await rm(directory, { recursive: true, force: true });
    await guard.release();
  });
  cleanup.add(async () => {
    const machines = await listCvms(space.machines);
    // Their disks go away with the folder: no guest has to be asked to shut down.
    await Promise.all(machines.map(({ dir }) => stopCvm(dir, { force: !keep })));
  });
  return space;
}

/** Writes the global configuration that the demo's own commands use, and the user's, by hand. */
export async function writeConfig(
  space: Workspace,
  parts: {
    chain: Chain;
    contracts: { kms: string };
    platform: Platform;
    kmsUrl: string;
    /** Folder with OS images: machines are virtual ones then. */
    images?: string | undefined;
  },
): Promise<string> {
  await writeFile(space.keyFile, `${parts.chain.ownerKey}\n`, { mode: 0o600 });
  const path = join(space.directory, 'config.json');
  const config = {
    _comment: 'Made by npm run demo; works as long as the demo runs',
    platform: 'local',
    services: { kms_urls: [parts.kmsUrl], gateway_urls: [], pccs_url: parts.platform.pccsUrl },
    image_search_paths: parts.images === undefined ? [] : [parts.images],
    chain: {
      rpc_url: parts.chain.rpcUrl,
      kms_contract: parts.contracts.kms,
      chain_id: parts.chain.chainId,
      private_key_file: space.keyFile,
      create_apps: true,
    },
    attestation: { root_ca: { tdx: space.rootFile } },
    local: {
      run_path: space.machines,
      seed_file: space.seedFile,
      driver: parts.images === undefined ? 'process' : 'vm',
      engine: 'process',
      env: { NODE_PATH: sdkModules().join(':') },
      ...(space.owner === null ? {} : { owner: space.owner }),
    },
  };
  await writeFile(path, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
  await chmod(path, 0o600);
  return path;
}

/** Where the unchanged npm SDK lies, for services that run as plain processes. */
function sdkModules(): string[] {
  const require = createRequire(import.meta.url);
  const entry = require.resolve('@phala/dstack-sdk');
  const modules = entry.slice(0, entry.lastIndexOf('@phala'));
  return [...new Set([dirname(`${modules}x`), join(repository, 'node_modules')])];
}
