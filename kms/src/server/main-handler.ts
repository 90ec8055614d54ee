import type { IncomingMessage, RequestListener } from 'node:http';
import {
  createPrpcHandler,
  implement,
  KMS,
  markProven,
  type PlainResponse,
  RpcError,
  takeToll,
} from '@dstack-cloud/prpc';
import { type Peer, peerOf, RaTlsError } from '@dstack-cloud/ra-tls';
import { auditHead, consistencyProof, inclusionProof } from '../audit/audit-rpc.ts';
import { serverNonces } from '../evidence/nonces.ts';
import { earlyImageRefusal, refusalCode } from '../evidence/refusal.ts';
import { withNonces } from '../evidence/with-nonces.ts';
import type { Caller, Kms } from '../kms.ts';
import { getAppEnvEncryptPubKey } from '../rpc/get-app-env-encrypt-pub-key.ts';
import { getAppKey } from '../rpc/get-app-key.ts';
import { getKey } from '../rpc/get-key.ts';
import { getKmsKey } from '../rpc/get-kms-key.ts';
import { metaSource } from '../rpc/get-meta.ts';
import { getTempCaCert } from '../rpc/get-temp-ca-cert.ts';
import { signCert } from '../rpc/sign-cert.ts';
import { APP_VERSION } from '../version.ts';
import { hasAdminTokenHash } from './admin-token-hash.ts';
import { bodyLimits } from './body-limits.ts';
import { callLogger } from './call-log.ts';
import { openApiRoute } from './open-api.ts';
import { healthRoute, metricsRoute, nonceRoute, readyRoute } from './plain-routes.ts';
import { watchedLogins } from './watched-logins.ts';

const TOO_MANY = 'Too many requests; try again later';
const LIMITED_BY_WORKLOAD = new Set(['GetAppKey', 'GetKey', 'GetKmsKey', 'SignCert']);
/** Their refusals begin with "App not allowed". */
const FOR_APPS = new Set(['GetAppKey', 'GetKey']);

/** The main listener: RPC for attested and open callers, health, readiness, metrics. */
export function mainHandler(service: Kms): RequestListener {
  const nonces = serverNonces(service.keys.roots, service.now);
  const { require_nonce: required } = service.config.core.attestation;
  const kms: Kms = { ...service, evidence: withNonces(service.evidence, nonces, required) };
  const getMeta = metaSource(kms);
  const logins = watchedLogins('main', kms);
  const { config } = kms;
  const methods = implement(KMS)<Caller>({
    GetMeta: () => getMeta(),
    GetTempCaCert: () => getTempCaCert(kms),
    GetAppEnvEncryptPubKey: (request) => getAppEnvEncryptPubKey(kms, request),
    GetAppKey: (request, caller) => getAppKey(kms, request, caller),
    GetKey: (request, caller) => getKey(kms, request, caller),
    GetKmsKey: (request, caller) => getKmsKey(kms, request, caller),
    SignCert: (request, caller) => signCert(kms, request, caller),
    GetAuditHead: () => auditHead(kms),
    GetAuditInclusion: (request) => inclusionProof(kms, request),
    GetAuditConsistency: (request) => consistencyProof(kms, request),
    // Without a configured token nobody may: the method then does not exist, as in the newer generation.
    ...(config.core.admin_token_hash === ''
      ? {}
      : {
          ClearImageCache: async (wanted, { request }) => {
            const login = await logins.check(request, () => hasAdminTokenHash(config, wanted.token));
            if (login === 'limited') throw new RpcError(TOO_MANY, { code: 'RATE_LIMITED', status: 429 });
            if (login === 'wrong') throw new RpcError('Invalid token', { code: 'UNAUTHORIZED' });
            await kms.images.clear(wanted);
          },
        }),
  });
  return createPrpcHandler<Caller>({
    mounts: [{ path: '/prpc', trim: 'KMS.', services: [methods], limits: bodyLimits(config) }],
    routes: [
      healthRoute,
      readyRoute(kms),
      nonceRoute(nonces),
      openApiRoute(KMS, 'dstack-kms'),
      ...(config.core.metrics.enabled ? [metricsRoute(kms)] : []),
    ],
    headers: { Server: 'dstack-kms', 'X-App-Version': APP_VERSION },
    guard: pageGuard,
    onRefused: () => kms.metrics.refused.inc({ step: 'page' }),
    before: (request, { method }) => callerOf(kms, request, method),
    onCall: callLogger(kms),
  });
}

/** Pages cost little, and nobody needs many of them; what they cost counts with all else that a network does. */
const PAGE_COST = 1;
/** Asks all workers and the policy source. */
const SCRAPE_COST = 5;

function pageGuard(request: IncomingMessage): PlainResponse | undefined {
  const { url = '/' } = request;
  if (url.startsWith('/prpc/') && !url.startsWith('/prpc/openapi.json')) return undefined;
  const cost = /^\/(metrics|ready)\b/.test(url) ? SCRAPE_COST : PAGE_COST;
  if (takeToll(request, cost)) return undefined;
  return { status: 429, headers: { 'Retry-After': '6' }, body: `${TOO_MANY}\n` };
}

/**
 * Who calls. Evidence in the certificate is verified before the method is looked up, for every method, once per
 * connection (docs/protocol/ra-tls.md section 5.1); damaged evidence is refused even for open methods.
 */
function callerOf(kms: Kms, request: IncomingMessage, method: string): Caller | Promise<Caller> {
  const address = request.socket.remoteAddress ?? '';
  const peer = peerOf(request);
  const { evidenceBytes = 0 } = peer.certificate ?? {};
  // Attested callers are limited by who they are, once that is known, but only where they get something for it.
  if (evidenceBytes === 0 || !LIMITED_BY_WORKLOAD.has(method)) kms.limits.open(address);
  // Most calls come without a certificate, and nothing has to be waited for.
  return peer.certificate === undefined
    ? { address, request, attestation: undefined }
    : attested(kms, request, address, peer, method);
}

async function attested(
  kms: Kms,
  request: IncomingMessage,
  address: string,
  peer: Peer,
  method: string,
): Promise<Caller> {
  try {
    const { evidence, limits } = kms;
    const attestation = await peer.attestation(async (certificate) => {
      const known = evidence.knownResult(certificate);
      return known ?? limits.shown(address, (prover) => evidence.verifyCertificate(certificate, prover));
    });
    if (attestation !== undefined) markProven(request);
    return { address, request, attestation };
  } catch (error) {
    if (!(error instanceof RaTlsError)) throw error;
    const image = earlyImageRefusal(error);
    if (image !== undefined) throw FOR_APPS.has(method) ? image.within('App not allowed') : image;
    throw new RpcError(error.message, { code: refusalCode(error), cause: error });
  }
}
