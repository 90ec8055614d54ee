import { isIP } from 'node:net';
import { RpcError } from '@dstack-cloud/prpc';

/**
 * Checks the name under which a KMS is reached: a DNS name or an IP address (docs/protocol/kms.md section 6.2).
 * @throws RpcError
 */
export function assertDomain(domain: string): void {
  const problem = domainProblem(domain);
  if (problem !== undefined) throw new RpcError(`domain ${problem}`, { code: 'INVALID_ARGUMENT' });
}

/** What is wrong with such a name; undefined when nothing is. */
function domainProblem(domain: string): string | undefined {
  // An address with a zone is one of this machine only, and no certificate can carry it (RFC 5280 section 4.2.1.6).
  if (isIP(domain) !== 0 && !domain.includes('%')) return undefined;
  if (domain.length === 0 || domain.length > 253 || /[^\u0021-\u007e]/.test(domain)) {
    return 'must be a non-empty ASCII DNS name of at most 253 bytes';
  }
  return domain.split('.').every((label) => /^(?!-)[A-Za-z0-9-]{1,63}(?<!-)$/.test(label))
    ? undefined
    : 'contains an invalid DNS label';
}

/** What is wrong with the name of a KMS that has its keys already: it may be that of a host with an underscore. */
export function servedNameProblem(domain: string): string | undefined {
  return domainProblem(domain.replaceAll('_', 'x'));
}
