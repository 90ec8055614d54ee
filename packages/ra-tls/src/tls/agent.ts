import { Agent, type RequestOptions } from 'node:https';
import { isIP } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect, type TLSSocket } from 'node:tls';
import { decodePem, equalBytes } from '@dstack-cloud/encoding';
import { withTimeout } from '@dstack-cloud/runtime';
import { certificatePem } from '../certificate/issue-certificate.ts';
import { messageOf, RaTlsError } from '../errors.ts';
import { checkServer, type ServerRules } from './check-server.ts';
import { checkKmsIdentity } from './server-identity.ts';

const CONNECT_TIMEOUT_MS = 5_000;
/**
 * Servers close connections that bring no request for some seconds, the key service after ten. Evidence takes longer to
 * verify where its collateral is fetched from afar, or the processor is emulated.
 */
const RECONNECT_AFTER_MS = 3_000;
/** Behind one address there may be servers with a certificate each. */
const MAX_CHECKS = 3;

/** Anybody can write that usage; but no application has it by mistake, and no KMS lacks it. */
const USAGE_ALONE: ServerRules = { evidence: 'ignore' };

/** Opens a stream to a host and port. */
export type Dial = (host: string, port: number) => Promise<Duplex>;

export interface RaTlsAgentOptions {
  /** PEM of the only root that is trusted, one certificate. Without it the server is known by its evidence or its pinned key. */
  readonly ca?: string;
  /** Client certificate, PEM, and its key, PEM PKCS#8. */
  readonly cert?: string;
  readonly key?: string;
  /** What the server must be; `dangerously-unverified`, for calls before the root is known, looks at its usage alone. */
  readonly verifyServer: ServerRules | 'dangerously-unverified';
  /** For the handshake, and before it for `dial`. Default 5 s. */
  readonly connectTimeoutMs?: number;
  /** Opens the stream that TLS runs over, e.g. through a proxy. Default: TCP to that host and port. */
  readonly dial?: Dial;
  /** When checking the server took this long, the request goes over a new connection to it. Default 3 s. */
  readonly reconnectAfterMs?: number;
  /** Default true. */
  readonly keepAlive?: boolean;
}

/**
 * An agent whose connections are handed out only after the server has been checked: chain and host name when a root is
 * given, then usage, pinned key and evidence. Sessions are never resumed.
 * @throws TypeError for rules that would trust anybody, EncodingError when `ca` is not one certificate
 */
export function raTlsAgent(options: RaTlsAgentOptions): Agent {
  const { verifyServer, ca } = options;
  if (verifyServer !== 'dangerously-unverified') {
    const evidence = verifyServer.evidence ?? 'if-present';
    if (evidence !== 'ignore' && !verifyServer.verify)
      throw new TypeError('Evidence is wanted, but verify is missing');
    if (ca === undefined && evidence !== 'required' && !verifyServer.pinnedSpki) {
      throw new TypeError('Without a root the rules must require evidence or pin the key of the server');
    }
  } else if (ca !== undefined) {
    throw new TypeError('A root is given, so the server can be verified');
  }
  return new CheckedAgent({ ...options, ...(ca !== undefined && { ca: onlyCertificate(ca) }) });
}

/**
 * One certificate, encoded again: OpenSSL also takes blocks with other labels (TRUSTED CERTIFICATE), so a text from
 * outside could add roots that nobody looked at.
 */
export function onlyCertificate(pem: string): string {
  return certificatePem(decodePem(pem, 'CERTIFICATE'));
}

class CheckedAgent extends Agent {
  readonly #options: RaTlsAgentOptions;

  constructor(options: RaTlsAgentOptions) {
    super({ keepAlive: options.keepAlive ?? true, maxCachedSessions: 0 });
    this.#options = options;
  }

  /** Node calls this for each new connection; the request waits until `done` is called. */
  override createConnection(
    target: RequestOptions,
    done?: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    this.#connect(target).then(
      (socket) => done?.(null, socket),
      // On an error Node does not look at the stream.
      (error: unknown) => done?.(asError(error), undefined as never),
    );
  }

  async #connect(target: RequestOptions): Promise<TLSSocket> {
    const { verifyServer, ca, reconnectAfterMs = RECONNECT_AFTER_MS } = this.#options;
    const rules = verifyServer === 'dangerously-unverified' ? USAGE_ALONE : verifyServer;
    let verified: Uint8Array | undefined;
    for (let left = MAX_CHECKS; ; left--) {
      const socket = await handshake(target, this.#options);
      try {
        // Once: a second call finds none on a client's side.
        const shown = socket.getPeerX509Certificate();
        if (!shown) throw new RaTlsError('connection', 'The server showed no certificate');
        // The verdict is on the certificate, and this handshake proved its key again.
        if (verified !== undefined && equalBytes(verified, shown.raw)) return socket;
        const started = performance.now();
        await checkServer(shown, rules, ca);
        const isFresh = performance.now() - started < reconnectAfterMs;
        if (!socket.destroyed && (isFresh || left <= 1)) return socket;
        if (left <= 1) throw new RaTlsError('connection', 'The server closed the connection');
        verified = shown.raw;
      } catch (error) {
        socket.destroy();
        throw error;
      }
      socket.destroy();
    }
  }
}

async function handshake(target: RequestOptions, options: RaTlsAgentOptions): Promise<TLSSocket> {
  const { ca, cert, key, dial, connectTimeoutMs = CONNECT_TIMEOUT_MS } = options;
  const host = target.host ?? 'localhost';
  const port = Number(target.port ?? 443);
  const stream = dial && (await dialled(dial, host, port, connectTimeoutMs));
  return await new Promise((resolve, reject) => {
    const socket = connect({
      ...(stream === undefined ? { host, port } : { socket: stream, host }),
      ...(isIP(host) === 0 && { servername: host }),
      ca: ca === undefined ? [] : [ca],
      ...(cert !== undefined && { cert }),
      ...(key !== undefined && { key }),
      minVersion: 'TLSv1.2',
      ALPNProtocols: ['http/1.1'],
      rejectUnauthorized: ca !== undefined,
      checkServerIdentity: checkKmsIdentity,
    });
    const fail = (reason: string, cause?: unknown): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(new RaTlsError('connection', `${host}: ${reason}`, { cause }));
    };
    const timer = setTimeout(() => fail(`no TLS connection within ${connectTimeoutMs} ms`), connectTimeoutMs);
    const onClose = (): void => fail('the connection was closed during the handshake');
    // Kept: an error before the HTTP client attaches its own listener then shows as a destroyed socket.
    socket.on('error', (error) => fail(error.message, error));
    socket.once('close', onClose);
    socket.once('secureConnect', () => {
      clearTimeout(timer);
      socket.off('close', onClose);
      if (ca !== undefined && !socket.authorized) fail(`untrusted certificate: ${socket.authorizationError}`);
      else if (socket.isSessionReused()) fail('the session was resumed');
      else resolve(socket);
    });
  });
}

async function dialled(dial: Dial, host: string, port: number, timeoutMs: number): Promise<Duplex> {
  const opening = dial(host, port);
  try {
    return await withTimeout(opening, timeoutMs, () => new Error(`no stream within ${timeoutMs} ms`));
  } catch (cause) {
    // One that comes after all is of no use to anybody.
    opening.then(
      (stream) => stream.destroy(),
      () => undefined,
    );
    throw new RaTlsError('connection', `${host}: ${messageOf(cause)}`, { cause });
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(messageOf(error));
}
