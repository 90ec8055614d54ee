/** Everything of Google Cloud's key path, really running here: the stack of a key service, and an emulated cloud that boots. */
import { mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { addOsImageHash } from '@dstack-cloud/contracts';
import { VM_DOMAIN } from '@dstack-cloud/scripts/demo/kms';
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
  readonly stack: Stack;
  readonly gcp: EmulatedGcp;
  readonly machines: RealMachines;
  readonly projects: string;
  /** Configuration for commands that ask, from here, who vouches for the machines' hardware. */
  readonly hostConfig: string;
  /** One command line in a folder, as a program of its own. */
  cli(folder: string, ...args: readonly string[]): Promise<Outcome>;
  /** The same, from which success is expected. */
  must(folder: string, ...args: readonly string[]): Promise<Outcome>;
  /** What the console of an instance has shown since it was switched on. */
  console(instance: string): string;
  stop(): Promise<void>;
}

/** @param image folder of a built development image */
export async function startMachineLab(image: string): Promise<MachineLab> {
  const stack = await startStack(undefined, { domain: VM_DOMAIN, vtpms: true });
  const ending: (() => Promise<void>)[] = [stack.stop];
  const stop = async (): Promise<void> => {
    for (const end of ending.reverse().splice(0)) await end();
  };
  try {
    const { directory, projects, seedFile } = stack.space;
    const gcp = await startGcp();
    ending.push(() => gcp.close());
    const machines = realMachines(gcp.compute, {
      ...{ folder: mkdtempSync(join(tmpdir(), 'gce-')), seedFile, collateralUrl: stack.pccs.pccsUrl },
    });
    ending.push(() => machines.close());
    gcp.compute.power = machines;
    const images = join(directory, 'images');
    mkdirSync(images);
    symlinkSync(image, join(images, LAB_IMAGE));
    const hash = readFileSync(join(image, 'auth_hash.txt'), 'utf8').trim();
    await addOsImageHash(stack.contracts.client, stack.contracts.kms, `0x${hash}`);
    const vtpmRoot = join(directory, 'simulated-vtpm-root.pem');
    writeFileSync(vtpmRoot, createGcp(new Uint8Array(readFileSync(seedFile))).rootPem);
    const parts = { images, vtpmRoot, project: gcp.project };
    const config = writeConfig(stack, parts, (url) => url.replace('127.0.0.1', VM_DOMAIN));
    const hostConfig = writeConfig(stack, parts, (url) => url);
    const env = { HOME: directory, DSTACK_CLOUD_CONFIG: config, ...gcp.env };
    const cli: MachineLab['cli'] = (folder, ...args) =>
      runCommand([process.execPath, join(repository, 'dist/bin/dstack-cloud.js'), '-C', folder, ...args], {
        ...{ env, timeoutMs: COMMAND_MS },
      });
    const console = (instance: string): string =>
      gcp.compute.instances.get(instance)?.serial.toString('utf8') ?? '';
    return {
      ...{ stack, gcp, machines, projects, hostConfig, cli, console, stop },
      must: async (folder, ...args) => {
        const outcome = await cli(folder, ...args);
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
function writeConfig(
  stack: Stack,
  { images, vtpmRoot, project }: { images: string; vtpmRoot: string; project: string },
  seen: (url: string) => string,
): string {
  const config = JSON.parse(readFileSync(stack.config, 'utf8')) as Record<string, Record<string, unknown>>;
  const { kms, pccs, space } = stack;
  const path = join(space.directory, `gcp-${new URL(seen(pccs.pccsUrl)).hostname}.json`);
  const services = {
    ...config['services'],
    kms_urls: [...new Set([kms.url, seen(kms.url)])],
    pccs_url: seen(pccs.pccsUrl),
  };
  const text = JSON.stringify({
    ...config,
    platform: 'gcp',
    services,
    image_search_paths: [images],
    gcp: { project },
    attestation: { root_ca: { tdx: space.rootFile, gcp_tpm: vtpmRoot } },
  });
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}
