import { createHash } from 'node:crypto';

/**
 * What a TEE quotes about its certificates (docs/protocol/gateway.md section 7.1), 64 bytes: `acme-account` with the URI of the
 * account, `zt-cert` with the DER SubjectPublicKeyInfo of a certificate.
 */
export function certReportData(tag: 'acme-account' | 'zt-cert', content: Uint8Array | string): Uint8Array {
  return new Uint8Array(createHash('sha512').update(`${tag}:`).update(content).digest());
}
