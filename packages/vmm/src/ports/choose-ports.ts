import type { CvmManifest, PortMapping } from '../manifest/manifest.ts';
import { freePort, requireFreePort } from './ports.ts';

/** The ports of the host that this run of the machine uses. */
export interface GuestPorts {
  readonly agent: number;
  /** First mapped port of the application, if it has one. */
  readonly app: number | undefined;
}

export interface ChosenPorts extends GuestPorts {
  /** The manifest with every port filled in. */
  readonly manifest: CvmManifest;
  readonly named: Readonly<Record<string, number>>;
  readonly urls: Readonly<Record<string, string>>;
}

/**
 * Settles the ports of a start: one that the user asked for must be free, else `port_in_use`; one of an earlier start
 * is kept when it is free, so that addresses survive a restart; else a free one is taken.
 */
export async function choosePorts(manifest: CvmManifest): Promise<ChosenPorts> {
  // An enclave's agent listens inside it only.
  const hasAgent = manifest.driver !== 'enclave';
  const agent = { ...manifest.agent_port, from: hasAgent ? await settle(manifest.agent_port) : 0 };
  const port_map: PortMapping[] = [];
  for (const mapping of manifest.port_map) port_map.push({ ...mapping, from: await settle(mapping) });
  const named: Record<string, number> = hasAgent ? { agent: agent.from } : {};
  for (const mapping of port_map) named[String(mapping.to)] = mapping.from;
  const first = port_map.find(({ protocol }) => protocol === 'tcp');
  // On a bridge the guest has an address of its own, and nothing of the host leads to it.
  const isMapped = manifest.driver !== 'vm' || manifest.vm.networks.some(({ mode }) => mode === 'user');
  return {
    manifest: { ...manifest, agent_port: agent, port_map },
    agent: agent.from,
    app: first?.from,
    named,
    urls: isMapped
      ? {
          ...(hasAgent ? { agent: `http://${agent.address}:${agent.from}` } : {}),
          // Who may read what goes into an enclave is its application's to say: nothing is known but the address.
          ...(first === undefined
            ? {}
            : { app: `${hasAgent ? 'http' : 'tcp'}://${first.address}:${first.from}` }),
        }
      : {},
  };
}

async function settle(wanted: { address: string; from: number; fixed: boolean }): Promise<number> {
  if (wanted.from === 0) return await freePort(wanted.address);
  try {
    await requireFreePort(wanted.from, wanted.address);
    return wanted.from;
  } catch (error) {
    if (wanted.fixed) throw error;
    return await freePort(wanted.address);
  }
}
