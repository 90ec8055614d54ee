// A gateway's listener for users, with instances on loopback addresses; nothing outside of tests imports it.
import { once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { CONNECTION_LIMITS } from '@dstack-cloud/prpc';
import { certificatePem, issueCertificate } from '@dstack-cloud/ra-tls';
import { AppAddressResolver, type TxtLookup } from '../names/app-address-resolver.ts';
import { type CertificatePair, CertificateStore } from '../proxy/certificate-store.ts';
import type { ProxyOptions, ProxyRecord } from '../proxy/proxy-options.ts';
import { createProxyServer } from '../proxy/proxy-server.ts';
import type { Instance } from '../routes/instance.ts';
import { InstanceHealth } from '../routes/instance-health.ts';
import { RoutingTable } from '../routes/routing-table.ts';

export const APP: string = 'a'.repeat(40);
export const BASE = 'apps.test';

export type Lab = {
  readonly port: number;
  readonly server: Server;
  readonly table: RoutingTable;
  readonly records: ProxyRecord[];
  readonly zone: Map<string, string[]>;
  readonly certificates: CertificateStore;
  /** The record of the next connection that ends. */
  next(): Promise<ProxyRecord>;
  close(): Promise<void>;
};

/** Starts a listener on loopback. */
export async function startLab(options: Partial<ProxyOptions> = {}, lookup?: TxtLookup): Promise<Lab> {
  const table = new RoutingTable();
  const records: ProxyRecord[] = [];
  const zone = new Map<string, string[]>();
  const waiting: ((record: ProxyRecord) => void)[] = [];
  const certificates = new CertificateStore({ minVersion: 'TLSv1.2', maxVersion: 'TLSv1.3' });
  certificates.set(BASE, certificateFor(`*.${BASE}`));
  const server = createProxyServer({
    table,
    health: new InstanceHealth(),
    handshakes: () => new Map([...table.all()].map(({ publicKey }) => [publicKey, now()])),
    certificates,
    customDomains: new AppAddressResolver({
      prefix: '_dstack-app-address',
      legacy: true,
      lookup: lookup ?? (async (name) => ({ records: (zone.get(name) ?? []).map((text) => [text]) })),
    }),
    onUnknownPolicy: () => undefined,
    serveOwn: (socket, id) => socket.end(`own ${id}`),
    timeouts: {
      handshake: 2_000,
      proxyHeader: 2_000,
      connect: 2_000,
      dns: 2_000,
      idle: 60_000,
      total: 60_000,
    },
    topN: 3,
    staleSeconds: 300,
    policy: 'fastest-handshake',
    maxConnectionsPerApp: 0,
    inboundProxyHeader: false,
    connections: { ...CONNECTION_LIMITS, costBurst: 5_000, costPerMinute: 60_000 },
    onRecord: (record) => {
      records.push(record);
      waiting.shift()?.(record);
    },
    ...options,
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    server,
    table,
    records,
    zone,
    certificates,
    next: () => new Promise((resolve) => waiting.push(resolve)),
    close: async () => {
      server.close();
    },
  };
}

/** An instance at a loopback address of its own: 127.1.0.x. */
export function instance(number: number, fields: Partial<Instance> = {}): Instance {
  return {
    instanceId: `${number}`.padStart(40, '0'),
    appId: APP,
    composeHash: '',
    ip: `127.1.0.${number}`,
    publicKey: `key-${number}`,
    registeredAt: 0,
    portPolicy: { ports: [], restrict: false },
    ...fields,
  };
}

/** A self-signed certificate in force now, unless told otherwise. */
export function certificateFor(name: string, notAfter: number = now() + 3600): CertificatePair {
  const key = generateP256Key();
  const der = issueCertificate({
    subject: { commonName: name },
    spki: key.spki,
    issuer: key,
    notAfter,
    altNames: [name],
    serverAuth: true,
  });
  return { certChain: certificatePem(der), key: p256KeyPem(key) };
}

function now(): number {
  return Math.floor(Date.now() / 1000);
}
