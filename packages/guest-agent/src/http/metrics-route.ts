import type { PlainResponse, PlainRoute } from '@dstack-cloud/prpc';
import type { Agent } from '../agent/agent.ts';
import { type DiskInfo, type SystemInfo, systemInfo } from '../machine/system-info.ts';
import { KeptAnswers } from '../public/kept-answers.ts';

/** Of many who ask within a second, one has the system looked at. */
const KEEP_MS = 1_000;

type Labels = Readonly<Record<string, string>>;

/**
 * `GET /metrics`, only when the application makes its system information public (docs/protocol/guest-agent.md section
 * 5).
 */
export function metricsRoute(agent: Agent): PlainRoute {
  const kept = new KeptAnswers<PlainResponse>(KEEP_MS);
  const make = async (): Promise<PlainResponse> => {
    const system = systemInfo(agent.config.root, [agent.config.root, agent.config.dataDir]);
    return { type: 'text/plain; charset=utf-8', body: metricsText(system) };
  };
  return { path: '/metrics', handle: () => kept.get('metrics', 0, make) };
}

/** Prometheus text format; names and help lines are those that scrapers of the original know. */
function metricsText(system: SystemInfo): string {
  const single = (name: string, help: string, value: bigint | number, labels: Labels = {}): string =>
    gauge(name, help, [[labels, value]]);
  const disks = (name: string, help: string, value: (disk: DiskInfo) => bigint | number): string => {
    const samples = system.disks.map(
      (disk) => [{ name: disk.name, mount_point: disk.mountPoint }, value(disk)] as const,
    );
    return gauge(name, help, samples);
  };
  return [
    single('system_os_name', 'Operating system name', 1, { os_name: system.osName }),
    single('system_os_version', 'Operating system version', 1, { os_version: system.osVersion }),
    single('system_kernel_version', 'Kernel version', 1, { kernel_version: system.kernelVersion }),
    single('system_cpu_model', 'CPU model information', 1, { cpu_model: system.cpuModel }),
    single('system_num_cpus', 'Number of CPUs', system.numCpus),
    single('system_memory_total', 'Total memory in bytes', system.totalMemory),
    single('system_memory_available', 'Available memory in bytes', system.availableMemory),
    single('system_memory_used', 'Used memory in bytes', system.usedMemory),
    single('system_memory_free', 'Free memory in bytes', system.freeMemory),
    single('system_swap_total', 'Total swap in bytes', system.totalSwap),
    single('system_swap_used', 'Used swap in bytes', system.usedSwap),
    single('system_swap_free', 'Free swap in bytes', system.freeSwap),
    single('system_uptime', 'System uptime in seconds', system.uptime),
    single('system_load_average_1m', 'Load average over 1 minute (times 100)', system.loadavgOne),
    single('system_load_average_5m', 'Load average over 5 minutes (times 100)', system.loadavgFive),
    single('system_load_average_15m', 'Load average over 15 minutes (times 100)', system.loadavgFifteen),
    disks('disk_total_size', 'Total disk size in bytes', (disk) => disk.totalSize),
    disks('disk_free_size', 'Free disk size in bytes', (disk) => disk.freeSize),
    disks('disk_used_size', 'Used disk size in bytes', (disk) => disk.totalSize - disk.freeSize),
    disks('disk_usage_percentage', 'Disk usage percentage', usage),
  ].join('\n');
}

function usage({ totalSize, freeSize }: DiskInfo): number {
  return totalSize === 0n ? 0 : Number(((totalSize - freeSize) * 10_000n) / totalSize) / 100;
}

function gauge(name: string, help: string, samples: readonly (readonly [Labels, bigint | number])[]): string {
  const lines = samples.map(([labels, value]) => {
    const text = Object.entries(labels).map(([label, content]) => `${label}="${escapeLabel(content)}"`);
    return `${name}${text.length > 0 ? `{${text.join(',')}}` : ''} ${value}\n`;
  });
  return `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${lines.join('')}`;
}

function escapeLabel(text: string): string {
  return text.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
}
