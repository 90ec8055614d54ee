import { encodePem, toHex } from '@dstack-cloud/encoding';
import type { DcapCollateral, DcapCollateralRequest, PckCertificateRequest } from '../collateral-source.ts';
import { AttestationError } from '../errors.ts';
import { JsonFields } from '../json-fields.ts';
import { parseCertificateChain } from '../x509/certificate.ts';
import { derForm } from '../x509/der-form.ts';
import { type Answer, boundedGet, type Fetch, textOf } from './bounded-fetch.ts';
import { jsonMemberText } from './json-member.ts';

/** Where Intel publishes its root CRL; the certificates name this host. */
const INTEL_CRL_HOST = 'certificates.trustedservices.intel.com';
const INTEL_API_HOST = 'api.trustedservices.intel.com';

export interface PcsConnection {
  /** Without trailing slash and version path. */
  readonly baseUrl: string;
  readonly fetch: Fetch;
  readonly signal: AbortSignal;
}

/** Cuts off what people append to the base URL (docs/protocol/verification.md section 2.1). */
export function normaliseBaseUrl(url: string): string {
  const base = url.replace(/\/+$/, '').replace(/\/(sgx|tdx)\/certification\/v4$/, '');
  if (URL.canParse(base) && /^https?:$/.test(new URL(base).protocol)) return base;
  throw new AttestationError('malformed', 'The collateral URL is not an http or https URL', { found: url });
}

/**
 * Fetches one collateral set: paths and headers of docs/protocol/verification.md section 2.1.
 * @throws AttestationError
 */
export async function fetchCollateral(
  request: DcapCollateralRequest,
  connection: PcsConnection,
): Promise<DcapCollateral> {
  const { tee, ca } = request;
  const fmspc = request.fmspc.toUpperCase();
  const [crl, tcb, qe] = await Promise.all([
    get(connection, `/sgx/certification/v4/pckcrl?ca=${ca}&encoding=der`),
    get(connection, `/${tee}/certification/v4/tcb?fmspc=${fmspc}`),
    get(connection, `/${tee}/certification/v4/qe/identity?update=standard`),
  ]);
  const tcbBody = textOf(tcb);
  const qeBody = textOf(qe);
  const qeIdentityIssuerChain = chainHeader(qe, 'SGX-Enclave-Identity-Issuer-Chain');
  return {
    pckCrlIssuerChain: chainHeader(crl, 'SGX-PCK-CRL-Issuer-Chain'),
    pckCrl: crlOf(crl, 'PCK CRL'),
    rootCaCrl: await fetchRootCrl(qeIdentityIssuerChain, connection),
    tcbInfoIssuerChain: chainHeader(tcb, 'SGX-TCB-Info-Issuer-Chain', 'TCB-Info-Issuer-Chain'),
    tcbInfo: jsonMemberText(tcbBody, 'tcbInfo'),
    tcbInfoSignature: signatureOf(tcbBody),
    qeIdentityIssuerChain,
    qeIdentity: jsonMemberText(qeBody, 'enclaveIdentity'),
    qeIdentitySignature: signatureOf(qeBody),
  };
}

/** PEM chain of a PCK certificate, leaf first, for quotes with certification data of types 2 and 3. */
export async function fetchPckCertificate(
  request: PckCertificateRequest,
  connection: PcsConnection,
): Promise<string> {
  const upper = (bytes: Uint8Array) => toHex(bytes).toUpperCase();
  const pceSvn = Uint8Array.of(request.pceSvn & 0xff, request.pceSvn >> 8);
  const query = [
    `qeid=${upper(request.qeId)}`,
    `encrypted_ppid=${upper(request.encryptedPpid)}`,
    `cpusvn=${upper(request.cpuSvn)}`,
    `pcesvn=${upper(pceSvn)}`,
    `pceid=${upper(request.pceId)}`,
  ].join('&');
  const answer = await get(connection, `/sgx/certification/v4/pckcert?${query}`);
  // Otherwise Intel gives the certificate of a lower TCB than the one which signed.
  const expected = `${upper(request.cpuSvn)}${upper(pceSvn)}`;
  const found = answer.headers.get('SGX-TCBm')?.toUpperCase() ?? 'none';
  if (found !== expected) {
    throw new AttestationError('collateral-invalid', 'The PCK certificate is of another TCB', {
      expected,
      found,
    });
  }
  const leaf = readable('PCK certificate', () => derForm(answer.bytes, 'CERTIFICATE'));
  return `${encodePem('CERTIFICATE', leaf)}${chainHeader(answer, 'SGX-PCK-Certificate-Issuer-Chain')}`;
}

/**
 * A PCCS serves it itself; Intel only at the address which the root certificate names. What is wrong with a PCCS is
 * said: an answer of Intel's in its place would hide it until that is needed, on the day when Intel cannot be reached.
 */
async function fetchRootCrl(qeIdentityIssuerChain: string, connection: PcsConnection): Promise<Uint8Array> {
  const { baseUrl } = connection;
  if (new URL(baseUrl).hostname !== INTEL_API_HOST) {
    return crlOf(await get(connection, '/sgx/certification/v4/rootcacrl'), 'root CRL');
  }
  const root = parseCertificateChain(qeIdentityIssuerChain).at(-1)!;
  const address = root.crlUrls.find((candidate) => isAllowedCrlUrl(candidate, baseUrl));
  if (!address) {
    throw new AttestationError(
      'collateral-unavailable',
      'The root CRL cannot be fetched: no usable address',
      {
        found: root.crlUrls.join(', '),
      },
    );
  }
  return crlOf(await boundedGet(address, connection.fetch, connection.signal), 'root CRL');
}

/** The chain is not verified yet: its URLs may lead to Intel or to the configured service only. */
function isAllowedCrlUrl(candidate: string, baseUrl: string): boolean {
  if (!URL.canParse(candidate)) return false;
  const url = new URL(candidate);
  return url.origin === new URL(baseUrl).origin || url.origin === `https://${INTEL_CRL_HOST}`;
}

function get(connection: PcsConnection, path: string): Promise<Answer> {
  return boundedGet(`${connection.baseUrl}${path}`, connection.fetch, connection.signal);
}

function chainHeader(answer: Answer, ...names: readonly string[]): string {
  for (const name of names) {
    const value = answer.headers.get(name);
    if (value !== null) return urlDecoded(value);
  }
  throw new AttestationError('collateral-invalid', `The answer has no header ${names.join(' or ')}`);
}

function urlDecoded(value: string): string {
  // Form encoding writes blanks as plus signs, and those of base64 as %2B.
  const text = value.includes('BEGIN+CERTIFICATE') ? value.replaceAll('+', ' ') : value;
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new AttestationError('collateral-invalid', 'An issuer chain is not URL-encoded', { cause });
  }
}

function signatureOf(body: string): Uint8Array {
  return new JsonFields(JSON.parse(body), 'answer').hex('signature', 64);
}

/** @throws AttestationError `collateral-invalid` that says what came instead */
function crlOf(answer: Answer, what: string): Uint8Array {
  return readable(what, () => derForm(answer.bytes, 'X509 CRL'));
}

function readable<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof AttestationError) || cause.code !== 'malformed') throw cause;
    throw new AttestationError('collateral-invalid', `The ${what} cannot be read: ${cause.message}`, {
      expected: cause.expected,
      found: cause.found,
      cause,
    });
  }
}
