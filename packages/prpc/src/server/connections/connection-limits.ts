/** Why a connection was closed before it said anything. */
export type TurnedAway =
  /** Its network has used up what it may do in a minute. */
  | 'rate'
  /** Its network has its share of connections, or of those that have said nothing yet. */
  | 'share'
  /** There is no room, and nobody has more of it than this network. */
  | 'full'
  /** `admits` said no. */
  | 'not-admitted';

/** Why a connection was ended that had been let in. */
export type Cut =
  /** What it sent is not HTTP. */
  | 'malformed'
  /** Headers, or the whole request, took too long. */
  | 'late'
  /** A request stood still before its end. */
  | 'stalled'
  /** The client does not take its answer. */
  | 'unread'
  /** More requests at once than any honest client sends on one connection. */
  | 'pipelined'
  /** Another network had less. */
  | 'displaced'
  /** Its network spent all that it had. */
  | 'rate';

/**
 * What strangers may take of a listener. Networks are compared, an IPv4 address or an IPv6 /64, so that one that takes all
 * it can get leaves room for the others.
 */
export type ConnectionLimits = {
  /** Connections open at the same time. */
  readonly max: number;
  /** Of them, those of one network. */
  readonly maxPerNetwork: number;
  /** Connections that have not finished their TLS handshake or, without TLS, have sent no request. */
  readonly maxSilent: number;
  readonly maxSilentPerNetwork: number;
  /** Bytes of the handshakes (certificates) of clients that are not yet verified; one network may have an eighth. */
  readonly maxHeldBytes: number;
  /**
   * What one network may cost in a minute. A connection costs 1, and so does each refused answer, with 1 more for each
   * 64 KiB of its body, and whatever `takeToll` is asked for.
   */
  readonly costPerMinute: number;
  readonly costBurst: number;
  /** For how long a request may stand still. */
  readonly stallMs: number;
  /** For how long an answer may wait for its reader. */
  readonly unreadMs: number;
  /** Asked after all that is cheaper. */
  readonly admits?: (address: string) => boolean;
  readonly onTurnedAway?: (why: TurnedAway, address: string) => void;
  readonly onCut?: (why: Cut, address: string) => void;
};

export const CONNECTION_LIMITS: ConnectionLimits = {
  max: 1024,
  maxPerNetwork: 256,
  maxSilent: 256,
  maxSilentPerNetwork: 64,
  maxHeldBytes: 32 * 2 ** 20,
  costPerMinute: 3_000,
  costBurst: 600,
  stallMs: 10_000,
  unreadMs: 20_000,
};

/**
 * Connections that the kernel keeps until they are taken. Beyond it drops them, and whoever they are from tries again a
 * second later. Linux has the least of this and of `net.core.somaxconn`.
 */
export const LISTEN_BACKLOG = 4_096;

/** Requests of one connection under way at the same time; HTTP clients wait for one answer after the other. */
export const MAX_PIPELINED = 8;

/** Refused requests after which a connection is closed: whoever goes on pays for a new one. */
export const MAX_REFUSALS = 5;
