import { escapeHtml, toHex } from '@dstack-cloud/encoding';
import type { AppInfo, PlainResponse, PlainRoute } from '@dstack-cloud/prpc';
import type { Agent } from '../agent/agent.ts';
import { info } from '../agent/info.ts';
import { CONTAINER_NAME, type ContainerInfo, type Containers } from '../machine/containers.ts';
import { type SystemInfo, systemInfo } from '../machine/system-info.ts';
import { KeptAnswers } from '../public/kept-answers.ts';

const GIB = 1024n ** 3n;
/** Of many who ask within a second, one has the engine asked. */
const KEEP_MS = 1_000;

/** `GET /`: the page of docs/protocol/guest-agent.md section 5. A failure is a 500, not a page that says 200. */
export function dashboardRoute(agent: Agent, containers: Containers): PlainRoute {
  const kept = new KeptAnswers<PlainResponse>(KEEP_MS);
  const make = async (): Promise<PlainResponse> => {
    const details = await info(agent, 'outside');
    const { publicSysinfo } = agent.compose;
    const system = publicSysinfo
      ? systemInfo(agent.config.root, [agent.config.root, agent.config.dataDir])
      : undefined;
    const list = await containers.list().catch(() => []);
    return { type: 'text/html; charset=utf-8', body: page(agent, details, system, list) };
  };
  return { path: '/', handle: () => kept.get('page', agent.local.version, make) };
}

function page(
  agent: Agent,
  details: AppInfo,
  system: SystemInfo | undefined,
  containers: readonly ContainerInfo[],
): string {
  const { vendor, product } = { vendor: details.cloudVendor, product: details.cloudProduct };
  const rows: [string, string][] = [
    ['App Name', details.appName],
    ['App ID', toHex(details.appId)],
    ['Instance ID', toHex(details.instanceId)],
    ['Device ID', toHex(details.deviceId)],
    ['Key Provider Info', details.keyProviderInfo],
    ...(vendor === '' ? [] : [['Machine Provider', `${vendor} (${product})`] as [string, string]]),
    ...(system === undefined ? [] : systemRows(system)),
  ];
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Worker Information</title>
<style>body{font-family:sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}th{text-align:left;padding-right:1rem}textarea{width:100%;height:20rem}</style>
</head>
<body>
<h1>Node Information</h1>
<table>
${rows.map(([name, value]) => `<tr><th>${escapeHtml(name)}</th><td>${escapeHtml(value)}</td></tr>`).join('\n')}
</table>
<h2>Containers</h2>
<table>
<tr><th>Name</th><th>Status</th></tr>
${containers.map((container) => containerRow(container, agent.compose.publicLogs)).join('\n')}
</table>
<h2>TCB Info</h2>
${
  agent.compose.publicTcbinfo
    ? `<textarea readonly>${escapeHtml(details.tcbInfo)}</textarea>`
    : '<p>TCB info is not public</p>'
}
</body>
</html>
`;
}

function containerRow(container: ContainerInfo, withLink: boolean): string {
  const name = (container.names[0] ?? container.id).replace(/^\//, '');
  const shown = escapeHtml(name);
  const link =
    withLink && CONTAINER_NAME.test(name)
      ? `<a href="/logs/${shown}?text&amp;bare&amp;timestamps&amp;follow&amp;tail=20">${shown}</a>`
      : shown;
  return `<tr><td>${link}</td><td>${escapeHtml(container.status)}</td></tr>`;
}

function systemRows(system: SystemInfo): [string, string][] {
  const size = (bytes: bigint) => `${(Number((bytes * 100n) / GIB) / 100).toFixed(2)} GB`;
  const { loadavgOne, loadavgFive, loadavgFifteen, uptime } = system;
  return [
    ['Operating System', `${system.osName} ${system.osVersion}`],
    ['Kernel Version', system.kernelVersion],
    ['CPU', `${system.cpuModel} x ${system.numCpus}`],
    ['Memory Usage', `${size(system.usedMemory)} / ${size(system.totalMemory)}`],
    ['Swap Usage', `${size(system.usedSwap)} / ${size(system.totalSwap)}`],
    [
      'Load Average',
      [loadavgOne, loadavgFive, loadavgFifteen].map((load) => (load / 100).toFixed(2)).join(' / '),
    ],
    ['System Uptime', `${uptime / 86_400n}d ${(uptime / 3600n) % 24n}h ${(uptime / 60n) % 60n}m`],
    ...system.disks.map(
      (disk, index) =>
        [`Disk ${index}`, `${disk.mountPoint}: ${size(disk.freeSize)} free of ${size(disk.totalSize)}`] as [
          string,
          string,
        ],
    ),
  ];
}
