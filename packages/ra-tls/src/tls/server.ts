import { constants } from 'node:crypto';
import type { RequestListener } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Socket } from 'node:net';
import type { SecureContextOptions, TLSSocket } from 'node:tls';
import { EncodingError } from '@dstack-cloud/encoding';
import { type ConnectionLimits, configureServer } from '@dstack-cloud/prpc';
import { RaTlsError } from '../errors.ts';
import { setPeer, TlsPeer } from './peer.ts';
import { glanceAt, type ShownCertificate } from './shown-certificate.ts';

/** As long as the original's clients wait for a connection. */
const HANDSHAKE_TIMEOUT_MS = 5_000;

/**
 * No tickets, because a resumed session shows the old client certificate without a new proof of possession, and
 * no renegotiation, because it could change the certificate after it was read.
 */
const SECURE_OPTIONS: number = constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION;

/** What the server shows. */
export interface ServerCertificate {
  /** PEM PKCS#8. */
  readonly key: string;
  /** PEM, leaf first. */
  readonly certChain: string;
  /** PEM of the CA that the server names to clients; without it only evidence in the certificate counts. */
  readonly clientCa?: string;
}

/** How one connection began, for logs and metrics. */
export interface SessionEvent {
  readonly outcome: 'accepted' | 'refused' | 'handshake-failed';
  readonly reason?: string;
  readonly remoteAddress?: string;
  readonly certificate: 'none' | 'chained' | 'attested' | 'other';
}

export interface RaTlsServerOptions extends ServerCertificate {
  readonly handler: RequestListener;
  readonly onSession?: (event: SessionEvent) => void;
  /** Default 5 s. */
  readonly handshakeTimeoutMs?: number;
  readonly connections?: Partial<ConnectionLimits>;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
}

/**
 * An HTTPS server for attested clients (docs/protocol/ra-tls.md section 5.1), not yet listening. Accepted are clients
 * without a certificate, with one of the client CA, and with any other that carries evidence; `peerOf(request)` gives
 * the client, whose evidence the handler must have read and verified. Any other certificate ends the connection.
 */
export function createRaTlsServer(options: RaTlsServerOptions): Server {
  const { handler, onSession, now = Date.now } = options;
  const server = createServer(
    {
      ...contextOptions(options),
      requestCert: true,
      rejectUnauthorized: false,
      handshakeTimeout: options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS,
      ALPNProtocols: ['http/1.1'],
    },
    handler,
  );
  configureServer(server, options.connections);
  // First in line: the HTTP parser must not see a connection that is refused.
  server.prependListener('secureConnection', (socket: TLSSocket) => {
    const shown = showed(socket);
    const event = sessionEvent(socket, shown, now());
    if (event.outcome === 'accepted') {
      setPeer(socket, new TlsPeer(shown.certificate, shown.chained, shown.refusal));
      // A client that has said all may close its side and still gets the answer (`configureServer`). Only now, because
      // one that goes away during the handshake is gone.
      socket.allowHalfOpen = true;
    } else socket.destroy();
    onSession?.(event);
  });
  server.on('tlsClientError', (error, socket) => {
    onSession?.({
      outcome: 'handshake-failed',
      reason: error.message,
      certificate: 'none',
      ...remote(socket),
    });
  });
  return server;
}

/** Gives new connections another certificate; connections that exist keep theirs. */
export function reloadCertificate(server: Server, certificate: ServerCertificate): void {
  server.setSecureContext(contextOptions(certificate));
}

function contextOptions({ key, certChain, clientCa }: ServerCertificate): SecureContextOptions {
  // An empty list, because Node reads a missing one as "all public CAs".
  const ca = clientCa === undefined ? [] : [clientCa];
  return { key, cert: certChain, ca, minVersion: 'TLSv1.2', secureOptions: SECURE_OPTIONS };
}

type Shown = {
  readonly hasOne: boolean;
  readonly chained: boolean;
  readonly certificate?: ShownCertificate;
  readonly refusal?: RaTlsError;
};

/** Glances at the client's leaf; the rest of its chain never counts. Node shows it reliably only on the first call. */
function showed(socket: TLSSocket): Shown {
  const der = socket.getPeerX509Certificate()?.raw;
  if (!der) return { hasOne: false, chained: false };
  const shown = { hasOne: true, chained: socket.authorized };
  try {
    // A plain view: a Buffer would leak into everything that is cut out of it.
    return { ...shown, certificate: glanceAt(new Uint8Array(der.buffer, der.byteOffset, der.length)) };
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    const message = `Failed to parse certificate: ${cause.message}`;
    return { ...shown, refusal: new RaTlsError('malformed', message, { cause }) };
  }
}

function sessionEvent(socket: TLSSocket, { hasOne, chained, certificate }: Shown, now: number): SessionEvent {
  const isAttested = certificate !== undefined && certificate.evidenceBytes > 0;
  const kind = !hasOne ? 'none' : chained ? 'chained' : isAttested ? 'attested' : 'other';
  const refused = (reason: string): SessionEvent => ({
    outcome: 'refused',
    reason,
    certificate: kind,
    ...remote(socket),
  });
  if (socket.isSessionReused()) return refused('the session was resumed');
  if (certificate && (now < certificate.notBefore * 1000 || now > certificate.notAfter * 1000 + 999)) {
    return refused('the client certificate is not in force');
  }
  if (kind === 'attested' && certificate?.isRepeated)
    return refused('the client certificate has evidence twice');
  if (kind === 'other') {
    return refused(
      'connection from unverified peer: the client certificate is neither of the client CA nor attested',
    );
  }
  return { outcome: 'accepted', certificate: kind, ...remote(socket) };
}

function remote(socket: Socket): { remoteAddress?: string } {
  return socket.remoteAddress === undefined ? {} : { remoteAddress: socket.remoteAddress };
}
