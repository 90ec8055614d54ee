import { isIP } from 'node:net';
import { connect } from 'node:tls';
import { CliError } from '../errors.ts';

const TIMEOUT_MS = 15_000;

/**
 * The certificate of a TLS server, DER. The handshake proves that it has the certificate's key; whether the certificate means
 * anything is for whoever verifies the evidence in it.
 * @throws CliError `unreachable`
 */
export async function peerCertificate(url: URL): Promise<Uint8Array> {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return await new Promise((resolve, reject) => {
    const failed = (why: string): void => {
      socket.destroy();
      reject(new CliError('unreachable', `No certificate from ${url.host}: ${why}`));
    };
    // A proxy that passes TLS through finds the server by its name (RFC 6066 section 3), which no address is.
    const name = isIP(host) === 0 ? { servername: host } : {};
    const to = { host, port: Number(url.port || 443), rejectUnauthorized: false, ...name };
    const socket = connect(to, () => {
      const { raw } = socket.getPeerCertificate();
      socket.destroy();
      if (raw instanceof Uint8Array) resolve(Uint8Array.from(raw));
      else failed('it has none');
    });
    const timer = setTimeout(() => failed('no answer in time'), TIMEOUT_MS);
    socket.once('close', () => clearTimeout(timer));
    socket.once('error', (error) => failed(error.message));
  });
}
