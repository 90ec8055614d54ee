import { isIP } from 'node:net';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';

/**
 * As Node's check, but an IP address written as dNSName counts: the KMS of the v0.6 line writes every name so
 * (docs/protocol/ra-tls.md section 2.3). The certificate's chain has been checked by then.
 */
export function checkKmsIdentity(host: string, certificate: PeerCertificate): Error | undefined {
  const names = certificate.subjectaltname ?? '';
  // Node quotes names that hold separators; a list with quotes is left to Node's own parser.
  if (isIP(host) !== 0 && !names.includes('"') && names.split(', ').includes(`DNS:${host}`)) return undefined;
  return checkServerIdentity(host, certificate);
}
