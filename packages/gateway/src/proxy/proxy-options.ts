import type { ConnectionLimits } from '@dstack-cloud/prpc';
import type { AppAddressResolver } from '../names/app-address-resolver.ts';
import type { BalancePolicy, Handshakes } from '../routes/choose-instances.ts';
import type { Instance } from '../routes/instance.ts';
import type { InstanceHealth } from '../routes/instance-health.ts';
import type { RoutingTable } from '../routes/routing-table.ts';
import type { CertificateStore } from './certificate-store.ts';

/** How a connection of a user ended, for logs and metrics. */
export type ProxyRecord = {
  readonly source: string;
  /** Server name, when it was read. */
  readonly name?: string;
  readonly mode?: 'terminate' | 'h2' | 'passthrough' | 'own';
  readonly instanceId?: string;
  readonly outcome:
    | 'relayed'
    | 'own'
    | 'no-name'
    | 'not-tls'
    | 'bad-name'
    | 'unknown-app'
    | 'denied-port'
    | 'app-full'
    | 'no-answer'
    | 'no-certificate'
    | 'handshake'
    | 'dns'
    | 'fault';
  /** Why, in a sentence; for a relayed one, what ended it. */
  readonly reason?: string;
  readonly sent?: number;
  readonly received?: number;
};

/** All in milliseconds. */
type ProxyTimeouts = {
  readonly handshake: number;
  readonly proxyHeader: number;
  readonly connect: number;
  readonly dns: number;
  /** Nothing flows in either direction. */
  readonly idle: number;
  readonly total: number;
};

export type ProxyOptions = {
  readonly table: RoutingTable;
  readonly health: InstanceHealth;
  readonly handshakes: () => Handshakes;
  readonly certificates: CertificateStore;
  readonly customDomains: AppAddressResolver;
  /** Serves `gateway.<base domain>` and `health.<base domain>`, whose TLS ends here. */
  readonly serveOwn: (socket: import('node:tls').TLSSocket, id: 'gateway' | 'health') => void;
  /** Somebody wants to reach an instance whose port policy is not known. */
  readonly onUnknownPolicy: (instance: Instance) => void;
  readonly timeouts: ProxyTimeouts;
  readonly topN: number;
  readonly staleSeconds: number;
  readonly policy: BalancePolicy;
  /** Over all instances of an application; 0 for no limit. */
  readonly maxConnectionsPerApp: number;
  /** Whether each connection begins with a PROXY header of a load balancer. */
  readonly inboundProxyHeader: boolean;
  readonly connections: ConnectionLimits;
  readonly onRecord: (record: ProxyRecord) => void;
  /** Unix seconds. */
  readonly now?: () => number;
};
