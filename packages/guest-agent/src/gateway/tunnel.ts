import { lookup } from 'node:dns/promises';
import { openInterface, runIn, WireGuardError, type WireGuardInterface } from '@dstack-cloud/wireguard';
import type { TunnelPlan, TunnelServer } from './tunnel-plan.ts';

/** Where the guest's end listens, as every guest of this line does. */
const LISTEN_PORT = 9182;
const CHAIN = 'DSTACK_WG';

export interface TunnelOptions {
  readonly interfaceName: string;
  /** Base64. */
  readonly privateKey: string;
  /** Folder for the configuration, 0700. */
  readonly folder: string;
  readonly driver?: 'auto' | 'kernel' | 'userspace';
  /** Network namespace by name; undefined for that of this process. */
  readonly namespace?: string;
}

/** The guest's end of its tunnels to gateways. */
export interface Tunnel {
  /** Makes the interface as the plan says; without a change nothing is touched, unless `renew` makes each tunnel anew. */
  apply(plan: TunnelPlan, renew: boolean): Promise<void>;
  /** Unix seconds of the newest handshake; 0 for none. */
  newestHandshake(): Promise<number>;
  close(): Promise<void>;
}

type Reached = TunnelServer & { readonly address: string };

export function createTunnel(options: TunnelOptions): Tunnel {
  const { interfaceName: name, privateKey, folder, driver = 'auto', namespace } = options;
  const place = namespace === undefined ? {} : { namespace };
  let opened: WireGuardInterface | undefined;
  let applied = '';

  const configured = (servers: readonly Reached[]): string =>
    [
      `[Interface]\nPrivateKey = ${privateKey}\nListenPort = ${LISTEN_PORT}\n`,
      ...servers.map(
        ({ publicKey, ip, address, port }) =>
          `\n[Peer]\nPublicKey = ${publicKey}\nAllowedIPs = ${ip}/32\nEndpoint = ${address}:${port}\nPersistentKeepalive = 25\n`,
      ),
    ].join('');

  return {
    apply: async ({ clientIp, servers }, renew) => {
      const reached = await Promise.all(servers.map(addressed));
      const text = configured(reached);
      if (`${clientIp}\n${text}` === applied && !renew) return;
      applied = '';
      // Packets of strangers are dropped before there is anything that reads them.
      await guard(reached, namespace);
      const ip = (...words: string[]) => runIn(namespace, 'ip', words);
      opened ??= await openInterface({ name, address: `${clientIp}/32`, folder, driver, ...place });
      if (renew) await opened.configure(configured([]));
      await opened.configure(text);
      await ip('address', 'flush', 'dev', name);
      await ip('address', 'add', `${clientIp}/32`, 'dev', name);
      await ip('route', 'flush', 'dev', name);
      for (const server of reached) await ip('route', 'replace', `${server.ip}/32`, 'dev', name);
      applied = `${clientIp}\n${text}`;
    },
    newestHandshake: async () =>
      opened === undefined ? 0 : Math.max(0, ...(await opened.handshakes()).values()),
    close: async () => await opened?.close(),
  };
}

async function addressed(server: TunnelServer): Promise<Reached> {
  try {
    const { address } = await lookup(server.host, { family: 4 });
    return { ...server, address };
  } catch (cause) {
    throw new WireGuardError(`the endpoint ${server.host} of the gateway has no address`, { cause });
  }
}

/** Only gateways reach the interface's UDP port. */
async function guard(servers: readonly Reached[], namespace: string | undefined): Promise<void> {
  const iptables = (...words: string[]) => runIn(namespace, 'iptables', ['-w', '5', ...words]);
  const jump = ['INPUT', '-p', 'udp', '--dport', String(LISTEN_PORT), '-j', CHAIN];
  const succeeds = async (...words: string[]) => await iptables(...words).then(() => true, isRefusal);
  if (!(await succeeds('-n', '-L', CHAIN))) await iptables('-N', CHAIN);
  await iptables('-F', CHAIN);
  for (const address of new Set(servers.map((server) => server.address)))
    await iptables('-A', CHAIN, '-s', address, '-j', 'ACCEPT');
  await iptables('-A', CHAIN, '-j', 'DROP');
  if (!(await succeeds('-C', ...jump))) await iptables('-I', ...jump);
}

/** iptables(8) ends with 1 for what is not there; anything else is a fault. */
function isRefusal(error: unknown): false {
  if (((error as Error).cause as { code?: unknown } | undefined)?.code === 1) return false;
  throw error;
}
