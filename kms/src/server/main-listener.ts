import { parseCertificate } from '@dstack-cloud/attestation';
import { p256KeyPem } from '@dstack-cloud/keys';
import { configureServer } from '@dstack-cloud/prpc';
import {
  certificatePem,
  createRaTlsServer,
  reloadCertificate,
  type SessionEvent,
} from '@dstack-cloud/ra-tls';
import type { Kms } from '../kms.ts';
import { admitOnly } from './admission.ts';
import { type Listener, listen } from './listen.ts';
import { mainHandler } from './main-handler.ts';

/** The main listener over RA-TLS. */
export type MainListener = Listener & {
  /** New connections get this RPC certificate (DER) from now on. */
  useCertificate(certificate: Uint8Array): void;
  /** Rejects when it can go on no longer. */
  readonly failed?: Promise<never>;
};

export async function startMainListener(kms: Kms, rpcCertificate: Uint8Array): Promise<MainListener> {
  const { address, port, tls } = kms.config.rpc;
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
    handshakeTimeoutMs: tls.handshake_timeout * 1000,
    onSession: (event) => logSession(kms, event),
    now: () => kms.now() * 1000,
  });
  admitOnly(server, {
    max: tls.max_connections,
    maxPerAddress: tls.max_connections_per_address,
    admits: (address) => kms.limits.mayConnect(address),
    onTurnedAway: () => kms.metrics.tlsHandshakes.inc({ result: 'turned-away' }),
  });
  const listener = await listen(configureServer(server), address, port);
  return {
    ...listener,
    useCertificate: (certificate) => reloadCertificate(server, certificateOf(certificate)),
  };
}

function logSession({ log, metrics }: Kms, event: SessionEvent): void {
  metrics.tlsHandshakes.inc({ result: event.outcome });
  if (event.outcome === 'accepted') return;
  const fields = { peer: event.remoteAddress, reason: event.reason, certificate: event.certificate };
  if (event.outcome === 'refused') log.warn(fields, 'connection from unverified peer');
  else log.warn(fields, 'RA-TLS handshake failed');
}
