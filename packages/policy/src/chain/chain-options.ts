import { backendUrl } from '../backend-url.ts';
import { PolicyError } from '../errors.ts';
import type { ChainEvent } from './chain-event.ts';
import { MAX_POLICY_DELAY_SECONDS } from './contracts/delay-denial.ts';
import type { CodeName } from './contracts/known-code.ts';
import { EndpointFailures } from './rpc/endpoint-failures.ts';

/** Which block a permission must have reached; a number means that many blocks behind the head. */
export type Finality = 'latest' | 'safe' | 'finalized' | number;

/** How decisions are learned: `calls` are executed by the endpoints, `proofs` show the storage that we decide by. */
export type Reads = 'calls' | 'proofs';

/** Configuration of the chain source. */
export type ChainPolicyOptions = {
  /** One or more JSON-RPC endpoints. */
  readonly rpcUrls: readonly string[];
  /** Proxy address of DstackKms, 0x hex. */
  readonly kmsContract: string;
  /**
   * JSON-RPC address of a verifying light client, such as helios beside the KMS. It alone says which block is the
   * head; whatever the endpoints answer must belong to that block.
   */
  readonly lightClientUrl?: string;
  /** Refuse endpoints of another chain. Optional and recommended. */
  readonly chainId?: number;
  /** How many endpoints must agree; default ⌈(n+1)/2⌉. */
  readonly quorum?: number;
  /** Deny when the head is older; default 120 s. */
  readonly maxBlockAgeSeconds?: number;
  /** Deny when the head is further in the future, because then its age says nothing; default 120 s. */
  readonly maxClockSkewSeconds?: number;
  /** A permission must hold at this block and at the head; a denial at either counts. Default `latest`. */
  readonly finality?: Finality;
  /**
   * How long a head may serve further requests at most, counted from when its reading began: a revocation is seen
   after that time at the latest, and a denial from such a head is checked again at a fresh one. While requests come,
   heads are read in the background, and permissions of late are brought to each new one. Default 0: each request
   sees a head read after it came.
   */
  readonly headReuseMs?: number;
  /** How decisions are learned; default `calls`. */
  readonly reads?: Reads;
  /** Names by code hash, 0x hex, of contracts that were built elsewhere; `proofs` decide by no other code. */
  readonly knownCode?: Readonly<Record<string, CodeName>>;
  /**
   * Allow only by contracts whose code is known, and whose policy nobody, not even the owner, can loosen unless that
   * was public for so many seconds; and only once this has been so for as long. Taking away counts at once.
   */
  readonly requireTimelockSeconds?: number;
  /** For one exchange with one endpoint; default 3 s. */
  readonly endpointTimeoutMs?: number;
  /** For one decision; default 8 s. */
  readonly totalTimeoutMs?: number;
  /** Unix seconds; default the system clock. */
  readonly now?: () => number;
  readonly onEvent?: (event: ChainEvent) => void;
};

/** The same with every default filled in. */
export type ChainSettings = Required<
  Omit<ChainPolicyOptions, 'chainId' | 'lightClientUrl' | 'requireTimelockSeconds'>
> &
  Pick<ChainPolicyOptions, 'chainId' | 'lightClientUrl' | 'requireTimelockSeconds'> & {
    readonly failures: EndpointFailures;
  };

/** @throws PolicyError `bad-configuration` naming the option, the value and what would do */
export function chainSettings(options: ChainPolicyOptions): ChainSettings {
  const { rpcUrls, kmsContract } = options;
  const settings = {
    quorum: Math.ceil((rpcUrls.length + 1) / 2),
    maxBlockAgeSeconds: 120,
    maxClockSkewSeconds: 120,
    finality: 'latest',
    headReuseMs: 0,
    reads: 'calls',
    knownCode: {},
    endpointTimeoutMs: 3_000,
    totalTimeoutMs: 8_000,
    now: () => Date.now() / 1_000,
    onEvent: () => {},
    ...definedOnly(options),
  } satisfies Omit<ChainSettings, 'failures'>;

  check(rpcUrls.length > 0, 'rpcUrls', 'empty', 'at least one address');
  check(
    new Set(rpcUrls.map((url, index) => backendUrl(url, `RPC address ${index + 1}`).href)).size ===
      rpcUrls.length,
    'rpcUrls',
    'one twice',
    'each address once: it has one vote',
  );
  if (settings.lightClientUrl !== undefined) backendUrl(settings.lightClientUrl, 'The light client address');
  // Where the addresses are mixed up, this is one of an endpoint, with its key.
  const shown = /^0x[0-9a-fA-F]*$/.test(kmsContract) ? kmsContract : 'no hex';
  check(/^0x[0-9a-fA-F]{40}$/.test(kmsContract), 'kmsContract', shown, '20 bytes of 0x hex');
  check(!/^0x0+$/.test(kmsContract), 'kmsContract', kmsContract, 'the address of a DstackKms proxy');
  check(
    Number.isInteger(settings.quorum) && settings.quorum >= 1 && settings.quorum <= rpcUrls.length,
    'quorum',
    settings.quorum,
    `a number from 1 to ${rpcUrls.length}`,
  );
  const { finality } = settings;
  check(
    typeof finality === 'string'
      ? ['latest', 'safe', 'finalized'].includes(finality)
      : Number.isInteger(finality) && finality >= 0 && finality <= 100_000,
    'finality',
    finality,
    'latest, safe, finalized or a number of blocks',
  );
  const { requireTimelockSeconds: delay } = options;
  check(
    delay === undefined || (Number.isInteger(delay) && delay >= 1 && delay <= MAX_POLICY_DELAY_SECONDS),
    'requireTimelockSeconds',
    delay,
    `a number of seconds from 1 to ${MAX_POLICY_DELAY_SECONDS}`,
  );
  for (const hash of Object.keys(settings.knownCode)) {
    check(/^0x[0-9a-fA-F]{64}$/.test(hash), 'knownCode', hash, 'a code hash, 32 bytes of 0x hex');
  }
  for (const name of [
    'maxBlockAgeSeconds',
    'maxClockSkewSeconds',
    'endpointTimeoutMs',
    'totalTimeoutMs',
  ] as const) {
    check(settings[name] > 0, name, settings[name], 'a positive number');
  }
  check(
    settings.headReuseMs >= 0 && settings.headReuseMs <= 10_000,
    'headReuseMs',
    settings.headReuseMs,
    '0 to 10000',
  );
  return { ...settings, failures: new EndpointFailures(settings.onEvent) };
}

function check(ok: boolean, name: string, found: unknown, wanted: string): void {
  if (ok) return;
  throw new PolicyError(
    'bad-configuration',
    `Chain policy: ${name} is ${String(found)}; it must be ${wanted}`,
  );
}

/** Options given as undefined count as not given. */
function definedOnly(options: ChainPolicyOptions): ChainPolicyOptions {
  return Object.fromEntries(
    Object.entries(options).filter(([, value]) => value !== undefined),
  ) as ChainPolicyOptions;
}
