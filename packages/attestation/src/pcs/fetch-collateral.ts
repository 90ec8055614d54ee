import { EncodingError, fromHex, toHex } from '@dstack-cloud/encoding';
import type { DcapCollateral, DcapCollateralRequest, PckCertificateRequest } from '../collateral-source.ts';
import { AttestationError } from '../errors.ts';
import { JsonFields } from '../json-fields.ts';
import { parseCertificateChain } from '../x509/certificate.ts';
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

/** Cuts off what people append to the base URL (chapter 20 section 3.2). */
export function normaliseBaseUrl(url: string): string {
  const base = url.replace(/\/+$/, '').replace(/\/(sgx|tdx)\/certification\/v4$/, '');
  if (URL.canParse(base) && /^https?:$/.test(new URL(base).protocol)) return base;
  throw new AttestationError('malformed', 'The collateral URL is not an http or https URL', { found: url });
}

/** Fetches one collateral set: paths and headers of chapter 20 section 3.2. @throws AttestationError */
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
    pckCrl: crl.bytes,
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
  return `${textOf(answer).trim()}\n${chainHeader(answer, 'SGX-PCK-Certificate-Issuer-Chain')}`;
}

/** A PCCS serves it as hex; Intel only at the address which the root certificate names. */
async function fetchRootCrl(qeIdentityIssuerChain: string, connection: PcsConnection): Promise<Uint8Array> {
  if (new URL(connection.baseUrl).hostname !== INTEL_API_HOST) {
    try {
      return hexBody(await get(connection, '/sgx/certification/v4/rootcacrl'));
    } catch (error) {
      if (!(error instanceof AttestationError) || connection.signal.aborted) throw error;
    }
  }
  const root = parseCertificateChain(qeIdentityIssuerChain).at(-1)!;
  const address = root.crlUrls.find((candidate) => isAllowedCrlUrl(candidate, connection.baseUrl));
  if (!address) {
    throw new AttestationError(
      'collateral-unavailable',
      'The root CRL cannot be fetched: no usable address',
      {
        found: root.crlUrls.join(', '),
      },
    );
  }
  return (await boundedGet(address, connection.fetch, connection.signal)).bytes;
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
  try {
    return decodeURIComponent(value);
  } catch (cause) {
    throw new AttestationError('collateral-invalid', 'An issuer chain is not URL-encoded', { cause });
  }
}

function signatureOf(body: string): Uint8Array {
  return new JsonFields(JSON.parse(body), 'answer').hex('signature', 64);
}

function hexBody(answer: Answer): Uint8Array {
  try {
    return fromHex(textOf(answer).trim());
  } catch (error) {
    if (!(error instanceof EncodingError)) throw error;
    throw new AttestationError('collateral-invalid', 'The root CRL is not hex', { cause: error });
  }
}
