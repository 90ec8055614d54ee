import type { Socket } from 'node:net';
import { Connection } from './connection.ts';
import type { ConnectionLimits, Cut, TurnedAway } from './connection-limits.ts';
import { networkOf } from './network-of.ts';
import { TokenBuckets } from './token-buckets.ts';

/** Part of the bytes held on credit that one network may have. */
const HELD_SHARE = 1 / 8;

/** The connections of one network, the oldest first. */
type Network = { readonly open: Set<Connection>; silent: number; held: number };

/** The connections of one listener by network. */
export class ConnectionTable {
  readonly #limits: ConnectionLimits;
  readonly #networks = new Map<string, Network>();
  readonly #tolls: TokenBuckets;
  #open = 0;
  #silent = 0;
  #held = 0;

  constructor(limits: ConnectionLimits) {
    this.#limits = limits;
    this.#tolls = new TokenBuckets(limits.costPerMinute, limits.costBurst, () => performance.now());
  }

  /** Lets a connection in, or ends it. @param isLocal it came by a Unix socket */
  admit(socket: Socket, isLocal: boolean): Connection | undefined {
    // None when the peer has gone already.
    const address = socket.remoteAddress ?? '';
    const name = isLocal ? '' : networkOf(address);
    const why = isLocal ? this.#makeRoom(name) : this.#turnsAway(name, address);
    if (why !== undefined) {
      this.#limits.onTurnedAway?.(why, address);
      socket.destroy();
      return undefined;
    }
    const connection = new Connection(this, socket, address, name);
    const network = this.#networks.get(name) ?? { open: new Set(), silent: 0, held: 0 };
    this.#networks.set(name, network);
    network.open.add(connection);
    this.#open += 1;
    this.#countSilent(network, 1);
    socket.once('close', () => this.#remove(connection, network));
    return connection;
  }

  /** The connection has said something whole. */
  spoke(connection: Connection): void {
    if (!connection.isSilent) return;
    connection.isSilent = false;
    const network = this.#networks.get(connection.network);
    if (network !== undefined) this.#countSilent(network, -1);
  }

  /** From now on the bytes of its handshake are held on credit. */
  hold(connection: Connection): void {
    const network = this.#networks.get(connection.network);
    if (network === undefined) return;
    this.#countHeld(connection, network, connection.socket.bytesRead);
    const { maxHeldBytes } = this.#limits;
    if (network.held > maxHeldBytes * HELD_SHARE) this.#displaceFrom(network, ({ held }) => held > 0);
    if (this.#held <= maxHeldBytes) return;
    const [most] = [...this.#networks.values()].sort((one, other) => other.held - one.held);
    if (most !== undefined) this.#displaceFrom(most, ({ held }) => held > 0);
  }

  /** The credit is paid. */
  release(connection: Connection): void {
    const network = this.#networks.get(connection.network);
    if (network !== undefined) this.#countHeld(connection, network, 0);
  }

  /** Takes what a network still may cost; false when it has not so much left. */
  take(cost: number, { network }: Connection): boolean {
    return network === '' || this.#tolls.take(network, cost);
  }

  /** A network that had its last request refused for now has no use for connections. */
  endWaiting(name: string): void {
    if (name === '') return;
    for (const connection of this.#networks.get(name)?.open ?? []) {
      if (isWaiting(connection) && !connection.isClosing) this.#cut(connection, 'rate');
    }
  }

  /** Nobody sends so by mistake: the network has nothing left for a minute, and no connection. */
  punish(offender: Connection): void {
    this.#cut(offender, 'pipelined');
    const { costPerMinute } = this.#limits;
    if (offender.network !== '') this.#tolls.setLevel(offender.network, -costPerMinute);
    this.endWaiting(offender.network);
  }

  /** Ends connections that are kept for nothing. */
  sweep(): void {
    const now = performance.now();
    const { stallMs, unreadMs } = this.#limits;
    for (const { open } of this.#networks.values()) {
      for (const connection of open) {
        const { at, ms } = connection.standstill(now) ?? {};
        if (at !== undefined && ms! >= (at === 'stalled' ? stallMs : unreadMs)) this.#cut(connection, at);
      }
    }
  }

  #turnsAway(name: string, address: string): TurnedAway | undefined {
    const { maxPerNetwork, maxSilentPerNetwork, admits } = this.#limits;
    const own = this.#networks.get(name);
    if (!this.#tolls.has(name)) return 'rate';
    if (own !== undefined && (own.open.size >= maxPerNetwork || own.silent >= maxSilentPerNetwork))
      return 'share';
    if (admits?.(address) === false) return 'not-admitted';
    const why = this.#makeRoom(name);
    if (why === undefined) this.#tolls.take(name, 1);
    return why;
  }

  /** Where all places are taken, one of the network that has most of them is freed, if that is not the one which asks. */
  #makeRoom(name: string): TurnedAway | undefined {
    const { max, maxSilent } = this.#limits;
    if (this.#silent >= maxSilent && !this.#displace(name, ({ silent }) => silent, isSilent)) return 'full';
    if (this.#open >= max && !this.#displace(name, ({ open }) => open.size, isWaiting)) return 'full';
    return undefined;
  }

  #displace(
    name: string,
    countOf: (network: Network) => number,
    mayGo: (connection: Connection) => boolean,
  ): boolean {
    const own = this.#networks.get(name);
    let most = own;
    for (const network of this.#networks.values()) {
      if (most === undefined || countOf(network) > countOf(most)) most = network;
    }
    // With one more the network would have no less than the one that has most.
    if (most === undefined || (own !== undefined && countOf(own) + 1 > countOf(most))) return false;
    return this.#displaceFrom(most, mayGo);
  }

  #displaceFrom({ open }: Network, mayGo: (connection: Connection) => boolean): boolean {
    for (const connection of open) {
      if (!mayGo(connection)) continue;
      this.#cut(connection, 'displaced');
      return true;
    }
    return false;
  }

  /** What it took is free at once, not only when the operating system has closed it. */
  #cut(connection: Connection, why: Cut): void {
    const network = this.#networks.get(connection.network);
    connection.cut();
    if (network !== undefined) this.#remove(connection, network);
    this.#limits.onCut?.(why, connection.address);
  }

  #remove(connection: Connection, network: Network): void {
    if (!network.open.delete(connection)) return;
    this.#open -= 1;
    if (connection.isSilent) this.#countSilent(network, -1);
    this.#countHeld(connection, network, 0);
    if (network.open.size === 0) this.#networks.delete(connection.network);
  }

  #countSilent(network: Network, change: 1 | -1): void {
    network.silent += change;
    this.#silent += change;
  }

  #countHeld(connection: Connection, network: Network, bytes: number): void {
    const change = bytes - connection.held;
    connection.held = bytes;
    network.held += change;
    this.#held += change;
  }
}

function isSilent(connection: Connection): boolean {
  return connection.isSilent;
}

function isWaiting({ underWay, isRelayed }: Connection): boolean {
  return underWay === 0 && !isRelayed;
}
