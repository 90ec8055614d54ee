import { create, type MessageInitShape, vmm } from '@dstack-cloud/prpc';
import type { CvmState } from '../../state/state.ts';
import { macAddress } from '../../vm/mac-address.ts';
import type { VmmConfig } from '../config/vmm-config.ts';
import { configurationOf, gatewaysOf, type Machine } from './machine.ts';

type VmInfo = MessageInitShape<typeof vmm.VmInfoSchema>;

/** What callers are told of a machine. */
export async function vmInfo(
  machine: Machine,
  config: VmmConfig,
  { isBrief, imageVersion }: { readonly isBrief: boolean; readonly imageVersion: string },
): Promise<VmInfo> {
  const { id, status, manifest, record } = machine;
  const { state } = status;
  const progress = state.events.filter(({ event }) => event === 'shutdown.progress').at(-1)?.body ?? '';
  const url = await appUrl(machine, config);
  return {
    id,
    name: status.name,
    status: statusOf(machine),
    uptime: uptime(state, machine.isAlive),
    ...(url === undefined ? {} : { appUrl: url }),
    appId: manifest?.app_id ?? '',
    ...(state.instance_id === null ? {} : { instanceId: state.instance_id }),
    ...(isBrief || manifest === undefined
      ? {}
      : { configuration: await configurationMessage(machine, record.started) }),
    ...(machine.isAlive || state.stopped_at === null ? {} : { exitedAt: state.stopped_at }),
    bootProgress: state.boot_progress,
    bootError: bootError(machine),
    shutdownProgress: progress,
    imageVersion,
    events: isBrief
      ? []
      : state.events.map(({ event, body, timestamp }) => ({ event, body, timestamp: BigInt(timestamp) })),
    interfaces: (manifest?.vm.networks ?? []).map((network, index) => ({
      mode: network.mode,
      backend: network.mode === 'user' ? 'slirp' : 'tap_bridge',
      mac: macAddress(id, index),
      netdevId: `net${index}`,
      ...(network.mode === 'bridge' ? { bridgeName: network.bridge_name } : {}),
    })),
  };
}

/** As the original has it: by whether it is to run and whether it does. */
export function statusOf({
  isAlive,
  record,
  status,
}: Machine): 'running' | 'exited' | 'stopping' | 'stopped' {
  if (isAlive) return record.started ? 'running' : 'stopping';
  // One that its guest powered off is not to run any more.
  return record.started && status.state.status !== 'stopped' ? 'exited' : 'stopped';
}

async function configurationMessage(machine: Machine, isStarted: boolean): Promise<vmm.VmConfiguration> {
  const { manifest } = machine;
  if (manifest === undefined) throw new TypeError('A machine without manifest has no configuration');
  const wanted = await configurationOf(machine, manifest);
  return create(vmm.VmConfigurationSchema, {
    name: wanted.name,
    image: wanted.image,
    composeFile: wanted.composeFile,
    vcpu: wanted.vcpu,
    memory: wanted.memory,
    diskSize: wanted.diskSize,
    ports: [...wanted.ports],
    encryptedEnv: wanted.encryptedEnv,
    appId: wanted.appId,
    userConfig: wanted.userConfig,
    kmsUrls: [...wanted.kmsUrls],
    gatewayUrls: [...wanted.gatewayUrls],
    stopped: !isStarted,
    noTee: wanted.noTee,
    hugepages: wanted.hugepages,
    pinNuma: wanted.pinNuma,
    ...(wanted.gpus === null
      ? {}
      : { gpus: { attachMode: wanted.gpus.attach_mode, gpus: [...wanted.gpus.gpus] } }),
    networks: wanted.networks.map((network) => ({
      mode: network.mode,
      bridgeName: network.mode === 'bridge' ? network.bridge_name : '',
    })),
  });
}

function bootError({ status: { state }, manifest }: Machine): string {
  if (manifest === undefined)
    return state.error ?? 'This folder holds another machine, or none that can be read';
  return state.error ?? '';
}

async function appUrl(
  { status, manifest }: Machine,
  { gateway, cvm }: VmmConfig,
): Promise<string | undefined> {
  const { instance_id: instance } = status.state;
  if (manifest === undefined || instance === null || instance === '') return undefined;
  const [first] = await gatewaysOf(status.dir).catch(() => cvm.gateway_urls);
  if (first === undefined || !URL.canParse(first)) return undefined;
  const { hostname, port } = new URL(first);
  const own = cvm.gateway_urls.includes(first);
  const host = own && gateway.base_domain !== 'localhost' ? gateway.base_domain : hostname;
  const shown = port === '' || port === '443' ? '' : `:${port}`;
  return `https://${instance}-${gateway.agent_port}.${host}${shown}`;
}

/** How long it runs, or ran. */
function uptime(
  { started_at: started, stopped_at: stopped }: Pick<CvmState, 'started_at' | 'stopped_at'>,
  isAlive: boolean,
): string {
  if (started === null) return 'never';
  const end = isAlive || stopped === null ? Date.now() : Date.parse(stopped);
  return humanDuration(Math.max(0, Math.floor((end - Date.parse(started)) / 1000)));
}

const UNITS: readonly (readonly [name: string, seconds: number])[] = [
  ['d', 86_400],
  ['h', 3600],
  ['m', 60],
  ['s', 1],
];

function humanDuration(total: number): string {
  let left = total;
  const parts: string[] = [];
  for (const [name, seconds] of UNITS) {
    const count = Math.floor(left / seconds);
    left -= count * seconds;
    if (count > 0) parts.push(`${count}${name}`);
  }
  return parts.join(' ') || '0s';
}
