import { existsSync, mkdirSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { createGcp, createPlatform } from '@dstack-cloud/tee-simulator';
import type { ComputeState, Power } from '../compute/compute-state.ts';
import { diskKey, type Json, type Machine } from '../compute/resources.ts';
import { writeDiskOf } from './disk-file.ts';
import { type GceMachine, startGceMachine } from './gce-machine.ts';
import { type OpenPort, openPorts } from './open-ports.ts';
import { Vtpm } from './vtpm.ts';

const GIB = 1024 ** 3;
/** A machine that cannot boot does not boot for ever. */
const MAX_RESTARTS = 20;

export interface RealMachinesOptions {
  /** Where disks and vTPMs lie; a short path, as sockets lie there too. */
  readonly folder: string;
  /** Seed of the simulated hardware. */
  readonly seedFile: string;
  /** Collateral service of that seed, where certificates of vTPMs say that their issuer's lies. */
  readonly collateralUrl: string;
}

export interface RealMachines extends Power {
  readonly folder: string;
  close(): Promise<void>;
}

/** Has the machines of an emulated Compute Engine really run. */
export function realMachines(compute: ComputeState, options: RealMachinesOptions): RealMachines {
  const { folder, collateralUrl } = options;
  const seed = new Uint8Array(readFileSync(options.seedFile));
  const gcp = createGcp(seed, { collateralUrl });
  const running = new Map<string, GceMachine>();
  const starting = new Map<string, Promise<void>>();
  /** Who was switched on and not off again; a guest that reboots stays among them. */
  const wanted = new Set<Machine>();
  const boots = new Map<string, number>();
  mkdirSync(join(folder, 'disks'), { recursive: true, mode: 0o700 });

  const portsOf = ({ body }: Machine): OpenPort[] =>
    openPorts(compute.firewalls.values(), ((body['tags'] as Json | undefined)?.['items'] ?? []) as string[]);

  /** The file of a disk, as large as the disk is now. */
  async function diskFile(source: string): Promise<string> {
    const disk = compute.find(compute.disks, diskKey(source));
    const path = join(folder, 'disks', String(disk['id']));
    const bytes = Number(disk['sizeGb']) * GIB;
    if (!existsSync(path)) await writeDiskOf(String(disk['archive']), path, bytes);
    else truncateSync(path, bytes);
    return path;
  }

  async function boot(machine: Machine): Promise<void> {
    const { name, body } = machine;
    const home = join(folder, String(body['id']));
    const disks: string[] = [];
    for (const { source } of body.disks) disks.push(await diskFile(source));
    const [nic] = body['networkInterfaces'] as { accessConfigs?: { natIP?: string }[] }[];
    const restart = async (): Promise<void> => {
      if (!wanted.has(machine)) return;
      if ((boots.get(name) ?? 0) < MAX_RESTARTS) return await on(machine);
      machine.body = { ...machine.body, status: 'TERMINATED' };
    };
    boots.set(name, (boots.get(name) ?? 0) + 1);
    const started = await startGceMachine({
      ...{ folder: join(home, 'run'), name, disks, gcp, ports: portsOf(machine) },
      vtpm: new Vtpm(home),
      platform: createPlatform(seed, { machine: name }),
      address: nic?.accessConfigs?.[0]?.natIP,
      onConsole: (text) => {
        if (compute.instances.get(name) === machine) compute.write(name, text);
      },
      onEnd: (how) => {
        running.delete(name);
        if (how === 'shutdown') {
          wanted.delete(machine);
          machine.body = { ...machine.body, status: 'TERMINATED' };
        } else void restart().catch((error: Error) => process.stderr.write(`${name}: ${error.message}\n`));
      },
    });
    running.set(name, started);
  }

  async function on(machine: Machine): Promise<void> {
    wanted.add(machine);
    const booted = boot(machine);
    const settled = booted.catch(() => undefined);
    starting.set(machine.name, settled);
    await booted.finally(() => {
      if (starting.get(machine.name) === settled) starting.delete(machine.name);
    });
  }

  async function off(machine: Machine, how: 'shutDown' | 'powerOff' = 'shutDown'): Promise<void> {
    const { name } = machine;
    wanted.delete(machine);
    await starting.get(name);
    const started = running.get(name);
    running.delete(name);
    await started?.[how]();
  }

  return {
    folder,
    on,
    off: (machine) => off(machine),
    network: async (machine) => await running.get(machine.name)?.setPorts(portsOf(machine)),
    close: async () => {
      for (const machine of [...wanted]) await off(machine, 'powerOff');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
