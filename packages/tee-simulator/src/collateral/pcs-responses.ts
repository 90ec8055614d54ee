import type { DcapCollateral } from '@dstack-cloud/attestation';
import { encodePem, toHex } from '@dstack-cloud/encoding';

/** One answer of the simulated certification service. */
export interface PcsResponse {
  readonly status: number;
  readonly type: string;
  readonly body: Uint8Array | string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What a path needs: collateral of either kind, the machine's family, and one CA name. */
export interface PcsSource {
  /** 6 bytes, upper-case hex. */
  readonly fmspc: string;
  collateral(tee: 'tdx' | 'sgx'): DcapCollateral;
}

const NOT_FOUND: PcsResponse = { status: 404, type: 'text/plain', body: 'Not found\n' };
const PATH = /^\/(sgx|tdx)\/certification\/v4\/(pckcrl|tcb|qe\/identity|rootcacrl)$/;

/** The answer to one GET of Intel's PCS v4 or a PCCS (docs/protocol/verification.md section 2.1). */
export function pcsResponse(url: URL, source: PcsSource): PcsResponse {
  const match = PATH.exec(url.pathname);
  if (!match) return NOT_FOUND;
  const tee = match[1] as 'tdx' | 'sgx';
  const query = url.searchParams;
  if (match[2] === 'tcb') return tcbInfo(query, tee, source);
  if (match[2] === 'qe/identity') return qeIdentity(query, tee, source);
  if (tee !== 'sgx') return NOT_FOUND;
  if (match[2] === 'pckcrl') return pckCrl(query, source);
  return { status: 200, type: 'text/plain', body: toHex(source.collateral('tdx').rootCaCrl) };
}

function tcbInfo(query: URLSearchParams, tee: 'tdx' | 'sgx', source: PcsSource): PcsResponse {
  if (query.get('fmspc')?.toUpperCase() !== source.fmspc) return NOT_FOUND;
  const { tcbInfo: text, tcbInfoSignature, tcbInfoIssuerChain } = source.collateral(tee);
  return {
    status: 200,
    type: 'application/json',
    // The signed text goes out as it was signed, never serialised again.
    body: `{"tcbInfo":${text},"signature":"${toHex(tcbInfoSignature)}"}`,
    headers: { 'TCB-Info-Issuer-Chain': encodeURIComponent(tcbInfoIssuerChain) },
  };
}

function qeIdentity(query: URLSearchParams, tee: 'tdx' | 'sgx', source: PcsSource): PcsResponse {
  if (!['standard', 'early', null].includes(query.get('update'))) return NOT_FOUND;
  const { qeIdentity: text, qeIdentitySignature, qeIdentityIssuerChain } = source.collateral(tee);
  return {
    status: 200,
    type: 'application/json',
    body: `{"enclaveIdentity":${text},"signature":"${toHex(qeIdentitySignature)}"}`,
    headers: { 'SGX-Enclave-Identity-Issuer-Chain': encodeURIComponent(qeIdentityIssuerChain) },
  };
}

function pckCrl(query: URLSearchParams, source: PcsSource): PcsResponse {
  // Only the platform CA exists here.
  if (query.get('ca') !== 'platform') return NOT_FOUND;
  const { pckCrl: list, pckCrlIssuerChain } = source.collateral('tdx');
  const headers = { 'SGX-PCK-CRL-Issuer-Chain': encodeURIComponent(pckCrlIssuerChain) };
  return query.get('encoding') === 'der'
    ? { status: 200, type: 'application/pkix-crl', body: list, headers }
    : { status: 200, type: 'application/x-pem-file', body: encodePem('X509 CRL', list), headers };
}
