/** Everything of Google Cloud's key path, really running here: the stack of a key service, and an emulated cloud that boots. */
import { mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from '@dstack-cloud/scripts/build';
import { Cleanup } from '@dstack-cloud/scripts/demo/cleanup';
import { type Contracts, deployContracts } from '@dstack-cloud/scripts/demo/contracts';
import { VM_DOMAIN } from '@dstack-cloud/scripts/demo/kms';
import { startChain } from '@dstack-cloud/scripts/demo/start-chain';
import { startPlatform } from '@dstack-cloud/scripts/demo/start-platform';
import { makeWorkspace, type Workspace, writeConfig } from '@dstack-cloud/scripts/demo/workspace';
import { createGcp } from '@dstack-cloud/tee-simulator';
import { type Outcome, repository, runCommand } from '../run-command.ts';
import { type Stack, startStack } from '../stack.ts';
import { type EmulatedGcp, startGcp } from './emulated-gcp.ts';
import { type RealMachines, realMachines } from './machine/real-machines.ts';

/** One command: a deploy follows a boot, which takes minutes on a loaded machine. */
const COMMAND_MS = 840_000;
/** Name of the OS image in the lab. */
export const LAB_IMAGE = 'dstack-cloud-dev';

export interface MachineLab {
  readonly space: Workspace;
  readonly contracts: Contracts;
  readonly gcp: EmulatedGcp;
  readonly machines: RealMachines;
  readonly projects: string;
  /** Configuration for commands that ask, from here, who vouches for the machines' hardware. */
  readonly hostConfig: string;
  /** Of the image in the lab, hex. */
  readonly osImageHash: string;
  /** Environment of who deploys. */
  readonly env: Readonly<Record<string, string>>;
  /** One command line in a folder, as a program of its own. */
  cli(folder: string, ...args: readonly string[]): Promise<Outcome>;
  /** The same, from which success is expected. */
  must(folder: string, ...args: readonly string[]): Promise<Outcome>;
  /** What the console of an instance has shown since it was switched on. */
  console(instance: string): string;
  stop(): Promise<void>;
}

/** What the machines of a lab find outside of the cloud. */
interface Surroundings {
  readonly space: Workspace;
  readonly contracts: Contracts;
  readonly pccsUrl: string;
  /** Global configuration to start from. */
  readonly config: string;
  /** Of the key service, as this host sees it. */
  readonly kmsUrl: string;
}

/**
 * A lab with a key service on this host.
 *
 * @param image folder of a built development image
 */
export async function startMachineLab(image: string): Promise<MachineLab & { readonly stack: Stack }> {
  const stack = await startStack(undefined, { domain: VM_DOMAIN, vtpms: true });
  const { space, contracts, config } = stack;
  const outside = { space, contracts, config, pccsUrl: stack.pccs.pccsUrl, kmsUrl: stack.kms.url };
  const lab = await startCloud(image, outside, stack.stop);
  return { ...lab, stack };
}

/**
 * A lab whose key service is still to be made: chain, contracts and collateral service are there.
 *
 * @param image folder of a built development image
 * @param kmsPort where the key service will be on this host
 */
export async function startLabWithoutKms(image: string, kmsPort: number): Promise<MachineLab> {
  const { directory } = await build();
  const cleanup = new Cleanup();
  try {
    const space = await makeWorkspace(cleanup, directory, false);
    const chain = await startChain(space, cleanup);
    const contracts = await deployContracts(chain);
    const platform = await startPlatform(space, cleanup);
    const kmsUrl = `https://127.0.0.1:${kmsPort}`;
    const config = await writeConfig(space, { chain, contracts, platform, kmsUrl });
    const outside = { space, contracts, config, kmsUrl, pccsUrl: platform.pccsUrl };
    return await startCloud(image, outside, () => cleanup.run());
  } catch (error) {
    await cleanup.run();
    throw error;
  }
}

async function startCloud(
  image: string,
  outside: Surroundings,
  endOutside: () => Promise<void>,
): Promise<MachineLab> {
  const { space, contracts, pccsUrl } = outside;
  const ending: (() => Promise<void>)[] = [endOutside];
  const stop = async (): Promise<void> => {
    for (const end of ending.reverse().splice(0)) await end();
  };
  try {
    const { directory, projects, seedFile } = space;
    const gcp = await startGcp();
    ending.push(() => gcp.close());
    const folder = mkdtempSync(join(tmpdir(), 'gce-'));
    const machines = realMachines(gcp.compute, { folder, seedFile, collateralUrl: pccsUrl });
    ending.push(() => machines.close());
    gcp.compute.power = machines;
    const images = join(directory, 'images');
    mkdirSync(images);
    symlinkSync(image, join(images, LAB_IMAGE));
    const osImageHash = readFileSync(join(image, 'auth_hash.txt'), 'utf8').trim();
    const vtpmRoot = join(directory, 'simulated-vtpm-root.pem');
    writeFileSync(vtpmRoot, createGcp(new Uint8Array(readFileSync(seedFile))).rootPem);
    const parts = { images, vtpmRoot, project: gcp.project };
    const config = writeCloudConfig(outside, parts, (url) => url.replace('127.0.0.1', VM_DOMAIN));
    const hostConfig = writeCloudConfig(outside, parts, (url) => url);
    const env = { HOME: directory, DSTACK_CLOUD_CONFIG: config, ...gcp.env };
    const cli: MachineLab['cli'] = (at, ...args) =>
      runCommand([process.execPath, join(repository, 'dist/bin/dstack-cloud.js'), '-C', at, ...args], {
        ...{ env, timeoutMs: COMMAND_MS },
      });
    const console = (instance: string): string =>
      gcp.compute.instances.get(instance)?.serial.toString('utf8') ?? '';
    return {
      ...{ space, contracts, gcp, machines, projects, hostConfig, osImageHash, env, cli, console, stop },
      must: async (at, ...args) => {
        const outcome = await cli(at, ...args);
        if (outcome.code === 0) return outcome;
        const consoles = [...gcp.compute.instances.keys()].map((name) => console(name).slice(-4000));
        throw new Error([args.join(' '), outcome.stderr, outcome.stdout, ...consoles].join('\n'));
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/**
 * Key service and collateral service are on this host's loopback, where machines find them by another address: of two
 * addresses of a key service each side uses the one that answers.
 *
 * @param seen the address of a service as those see it who get this configuration
 */
function writeCloudConfig(
  { config: path, kmsUrl, pccsUrl, space }: Surroundings,
  { images, vtpmRoot, project }: { images: string; vtpmRoot: string; project: string },
  seen: (url: string) => string,
): string {
  const config = JSON.parse(readFileSync(path, 'utf8')) as Record<string, Record<string, unknown>>;
  const written = join(space.directory, `gcp-${new URL(seen(pccsUrl)).hostname}.json`);
  const services = {
    ...config['services'],
    kms_urls: [...new Set([kmsUrl, seen(kmsUrl)])],
    pccs_url: seen(pccsUrl),
  };
  const text = JSON.stringify({
    ...config,
    platform: 'gcp',
    services,
    image_search_paths: [images],
    gcp: { project },
    attestation: { root_ca: { tdx: space.rootFile, gcp_tpm: vtpmRoot } },
  });
  writeFileSync(written, text, { mode: 0o600 });
  return written;
}
