import { isIP } from 'node:net';
import { RpcError } from '@dstack-cloud/prpc';

/** Checks the name under which a KMS is reached: a DNS name or an IP address (chapter 10 section 6.2). @throws RpcError */
export function assertDomain(domain: string): void {
  // An address with a zone is one of this machine only, and no certificate can carry it (RFC 5280 section 4.2.1.6).
  if (isIP(domain) !== 0 && !domain.includes('%')) return;
  if (domain.length === 0 || domain.length > 253 || /[^\u0021-\u007e]/.test(domain)) {
    throw invalid('domain must be a non-empty ASCII DNS name of at most 253 bytes');
  }
  if (!domain.split('.').every((label) => /^(?!-)[A-Za-z0-9-]{1,63}(?<!-)$/.test(label))) {
    throw invalid('domain contains an invalid DNS label');
  }
}

function invalid(message: string): RpcError {
  return new RpcError(message, { code: 'INVALID_ARGUMENT' });
}
