import { openInterface, WireGuardError } from '@dstack-cloud/wireguard';
import { GatewayError } from '../errors.ts';
import { type WireGuardPeer, wireGuardConfig } from './config-text.ts';

/** Changes that come together are given to `wg` in one command. */
const COALESCE_MS = 50;
/** Peers in one command: each takes about 100 bytes of the 128 KiB that one argument list may have (execve(2)). */
const PEERS_PER_COMMAND = 500;

export type WireGuardOptions = {
  /** At most 15 characters; unique on the machine, network namespaces included. */
  readonly interfaceName: string;
  /** Both base64. */
  readonly privateKey: string;
  readonly publicKey: string;
  readonly listenPort: number;
  /** With prefix, such as `10.0.0.1/24`. */
  readonly address: string;
  /** Folder for the configuration file, 0700. */
  readonly folder: string;
  /** `kernel`, `userspace`, or the kernel's where it has WireGuard. */
  readonly driver: 'auto' | 'kernel' | 'userspace';
  readonly onError: (error: GatewayError) => void;
};

/** The gateway's end of all tunnels. */
export type WireGuard = {
  readonly driver: 'kernel' | 'userspace';
  /** Makes the tunnel of a guest, or gives it another address; done within a tenth of a second. */
  set(peer: WireGuardPeer): void;
  remove(publicKey: string): void;
  /** Makes the interface have these peers and no other. */
  reconcile(peers: Iterable<WireGuardPeer>): Promise<void>;
  /** Unix seconds of the latest handshake by key; 0 for none. */
  handshakes(): Promise<ReadonlyMap<string, number>>;
  /** Ends `wireguard-go`. An interface of the kernel stays, so that tunnels live over a restart of the gateway. */
  close(): Promise<void>;
};

/**
 * Makes the interface and starts it. One that is there already is used with the tunnels that it has, if it has our key or none:
 * that of somebody else is left alone.
 * @throws GatewayError `wireguard` when the host has no WireGuard, the interface is somebody else's, or a program fails
 */
export async function startWireGuard(options: WireGuardOptions): Promise<WireGuard> {
  const { interfaceName: name, address, onError } = options;
  const { publicKey, folder, driver } = options;
  const opened = await ours(openInterface({ name, address, publicKey, folder, driver }));
  if (!opened.isKept) {
    try {
      await ours(opened.configure(wireGuardConfig(options, [])));
    } catch (error) {
      await opened.close();
      throw error;
    }
  }

  /** What is still to be told; an address, or that the peer is gone. */
  let pending = new Map<string, string | undefined>();
  let timer: NodeJS.Timeout | undefined;
  /** One command after the other: two at once would end in any order. */
  let last: Promise<void> = Promise.resolve();

  const inTurn = (work: () => Promise<void>): Promise<void> => {
    const turn = last.then(() => ours(work()));
    last = turn.catch(() => undefined);
    return turn;
  };

  const flush = async (): Promise<void> => {
    const changes = [...pending];
    pending = new Map();
    for (let start = 0; start < changes.length; start += PEERS_PER_COMMAND) {
      const part = changes.slice(start, start + PEERS_PER_COMMAND);
      await opened.set(part.flatMap(([key, ip]) => peerArguments(key, ip)));
    }
  };

  const change = (publicKey: string, ip: string | undefined): void => {
    pending.set(publicKey, ip);
    timer ??= setTimeout(() => {
      timer = undefined;
      inTurn(flush).catch((error: unknown) => onError(error as GatewayError));
    }, COALESCE_MS);
  };

  return {
    driver: opened.driver,
    set: ({ publicKey, ip }) => change(publicKey, ip),
    remove: (publicKey) => change(publicKey, undefined),
    reconcile: (peers) => {
      const list = [...peers];
      return inTurn(async () => {
        pending = new Map();
        await opened.configure(wireGuardConfig(options, list));
      });
    },
    handshakes: () => ours(opened.handshakes()),
    close: async () => {
      clearTimeout(timer);
      await last;
      await opened.close();
    },
  };
}

function peerArguments(publicKey: string, ip: string | undefined): string[] {
  if (ip === undefined) return ['peer', publicKey, 'remove'];
  return ['peer', publicKey, 'allowed-ips', `${ip}/32`, 'persistent-keepalive', '25'];
}

async function ours<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    if (cause instanceof WireGuardError) throw new GatewayError('wireguard', cause.message, { cause });
    throw cause;
  }
}
