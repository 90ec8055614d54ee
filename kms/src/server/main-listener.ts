import { parseCertificate } from '@dstack-cloud/attestation';
import { p256KeyPem } from '@dstack-cloud/keys';
import { type ConnectionLimits, networkOf } from '@dstack-cloud/prpc';
import {
  certificatePem,
  createRaTlsServer,
  reloadCertificate,
  type SessionEvent,
} from '@dstack-cloud/ra-tls';
import type { Kms } from '../kms.ts';
import { type Listener, listen, type Served, serveGiven } from './listen.ts';
import { mainHandler } from './main-handler.ts';
import { watchedConnections } from './watched-connections.ts';

type Certified = {
  /** New connections get this RPC certificate (DER) from now on. */
  useCertificate(certificate: Uint8Array): void;
};

/** The main listener over RA-TLS. */
export type MainListener = Listener &
  Certified & {
    /** Rejects when it can go on no longer. */
    readonly failed?: Promise<never>;
  };

export async function startMainListener(kms: Kms, rpcCertificate: Uint8Array): Promise<MainListener> {
  const { address, port } = kms.config.rpc;
  const { server, useCertificate } = mainServer(kms, rpcCertificate);
  return { ...(await listen(server, address, port)), useCertificate };
}

/** As the main listener, for connections that another process has taken. */
export function serveMain(kms: Kms, rpcCertificate: Uint8Array): Served & Certified {
  const { server, useCertificate } = mainServer(kms, rpcCertificate);
  return { ...serveGiven(server), useCertificate };
}

function mainServer(
  kms: Kms,
  rpcCertificate: Uint8Array,
): Certified & { readonly server: ReturnType<typeof createRaTlsServer> } {
  const certificateOf = (certificate: Uint8Array): { key: string; certChain: string; clientCa: string } => {
    kms.metrics.rpcCertExpiry.set(parseCertificate(certificate).notAfter);
    return {
      key: p256KeyPem(kms.keys.rpcKey),
      certChain: certificatePem(certificate),
      clientCa: certificatePem(kms.keys.tempCa.certificate),
    };
  };
  const server = createRaTlsServer({
    ...certificateOf(rpcCertificate),
    handler: mainHandler(kms),
    handshakeTimeoutMs: kms.config.rpc.tls.handshake_timeout * 1000,
    onSession: (event) => logSession(kms, event),
    now: () => kms.now() * 1000,
    connections: connectionLimits(kms),
  });
  return {
    server,
    useCertificate: (certificate) => reloadCertificate(server, certificateOf(certificate)),
  };
}

function connectionLimits({ config, limits, metrics, log }: Kms): Partial<ConnectionLimits> {
  const { tls } = config.rpc;
  const { enabled, network_cost_per_minute, network_cost_burst } = config.core.rate_limit;
  return {
    max: tls.max_connections,
    maxPerNetwork: tls.max_connections_per_address,
    maxSilent: tls.max_handshakes,
    maxSilentPerNetwork: tls.max_handshakes_per_address,
    costPerMinute: enabled ? network_cost_per_minute : Number.MAX_SAFE_INTEGER,
    costBurst: enabled ? network_cost_burst : Number.MAX_SAFE_INTEGER,
    admits: (address) => limits.mayConnect(address),
    ...watchedConnections({ metrics, log }),
    onTurnedAway: turnedAwayFrom({ metrics, log }),
  };
}

/** Counts and logs, in bounds, who was turned away from the main listener. */
export function turnedAwayFrom(
  kms: Pick<Kms, 'metrics' | 'log'>,
): ReturnType<typeof watchedConnections>['onTurnedAway'] {
  const { onTurnedAway } = watchedConnections(kms);
  return (why, address) => {
    kms.metrics.tlsHandshakes.inc({ result: 'turned-away' });
    onTurnedAway(why, address);
  };
}

function logSession({ log, metrics }: Kms, event: SessionEvent): void {
  metrics.tlsHandshakes.inc({ result: event.outcome });
  if (event.outcome === 'accepted') return;
  metrics.refused.inc({ step: event.outcome === 'refused' ? 'certificate' : 'handshake' });
  const { remoteAddress: peer, reason, certificate } = event;
  const fields = { source: networkOf(peer ?? ''), peer, reason, certificate };
  if (event.outcome === 'refused') log.warn(fields, 'connection from unverified peer');
  else log.warn(fields, 'RA-TLS handshake failed');
}
