import { readFileSync, statfsSync } from 'node:fs';
import { cpus, freemem, loadavg, release, totalmem, uptime } from 'node:os';
import { join } from 'node:path';

/** One mounted disk, sizes in bytes. */
export interface DiskInfo {
  readonly name: string;
  readonly mountPoint: string;
  readonly totalSize: bigint;
  readonly freeSize: bigint;
}

/**
 * Members of SystemInfo (docs/protocol/host-shared.md section 7): sizes in bytes, uptime in seconds, loads times 100.
 */
export interface SystemInfo {
  readonly osName: string;
  readonly osVersion: string;
  readonly kernelVersion: string;
  readonly cpuModel: string;
  readonly numCpus: number;
  readonly totalMemory: bigint;
  readonly availableMemory: bigint;
  readonly usedMemory: bigint;
  readonly freeMemory: bigint;
  readonly totalSwap: bigint;
  readonly usedSwap: bigint;
  readonly freeSwap: bigint;
  readonly uptime: bigint;
  readonly loadavgOne: number;
  readonly loadavgFive: number;
  readonly loadavgFifteen: number;
  readonly disks: DiskInfo[];
}

/** Reads the state of the machine; what cannot be read is 0 or empty. */
export function systemInfo(root: string, mountPoints: readonly string[]): SystemInfo {
  const os = osRelease(root);
  const memory = meminfo();
  const total = memory.get('MemTotal') ?? BigInt(totalmem());
  const free = memory.get('MemFree') ?? BigInt(freemem());
  const available = memory.get('MemAvailable') ?? free;
  const totalSwap = memory.get('SwapTotal') ?? 0n;
  const freeSwap = memory.get('SwapFree') ?? 0n;
  const [cpu] = cpus();
  const [one = 0, five = 0, fifteen = 0] = loadavg();
  return {
    osName: os.get('NAME') ?? '',
    osVersion: os.get('VERSION_ID') ?? '',
    kernelVersion: release(),
    cpuModel: cpu === undefined ? '' : `${cpu.model.trim()} @${cpu.speed} MHz`,
    numCpus: cpus().length,
    totalMemory: total,
    availableMemory: available,
    usedMemory: total - available,
    freeMemory: free,
    totalSwap,
    usedSwap: totalSwap - freeSwap,
    freeSwap,
    uptime: BigInt(Math.floor(uptime())),
    loadavgOne: Math.round(one * 100),
    loadavgFive: Math.round(five * 100),
    loadavgFifteen: Math.round(fifteen * 100),
    disks: [...new Set(mountPoints)].flatMap((mountPoint) => disk(mountPoint)),
  };
}

/** NAME and VERSION_ID of os-release (os-release(5)). */
export function osRelease(root: string): ReadonlyMap<string, string> {
  return new Map(
    readText(join(root, 'etc/os-release'), '/etc/os-release')
      .split('\n')
      .flatMap((line) => {
        const found = /^([A-Z_]+)=(?:"(.*)"|'(.*)'|(.*))$/.exec(line.trim());
        return found?.[1] === undefined ? [] : [[found[1], found[2] ?? found[3] ?? found[4] ?? ''] as const];
      }),
  );
}

function meminfo(): ReadonlyMap<string, bigint> {
  const lines = readText('/proc/meminfo').matchAll(/^(\w+):\s+(\d+) kB$/gm);
  return new Map([...lines].map(([, name = '', kib = '0']) => [name, BigInt(kib) * 1024n] as const));
}

function disk(mountPoint: string): DiskInfo[] {
  try {
    const { bsize, blocks, bavail } = statfsSync(mountPoint, { bigint: true });
    return [{ name: mountPoint, mountPoint, totalSize: blocks * bsize, freeSize: bavail * bsize }];
  } catch {
    return [];
  }
}

function readText(...paths: readonly string[]): string {
  for (const path of paths) {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      // The next one, if any.
    }
  }
  return '';
}
