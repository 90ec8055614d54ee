import { createHash } from 'node:crypto';
import { deriveAppCaKey } from '@dstack-cloud/keys';
import type { MessageInitShape } from '@dstack-cloud/prpc';
import { type kms as proto, RpcError } from '@dstack-cloud/prpc';
import {
  appCa,
  appInfoOf,
  appLeaf,
  certificatePem,
  checkCsrConfig,
  issuerOf,
  RaTlsError,
  type VerifiedCsr,
  verifyCsr,
} from '@dstack-cloud/ra-tls';
import { recordedNames } from '../audit/recorded-names.ts';
import { type Authorized, authorize } from '../authorize/authorize.ts';
import { findInitScripts } from '../evidence/init-scripts.ts';
import { earlyImageRefusal, refusalCode } from '../evidence/refusal.ts';
import type { VerifiedEvidence } from '../evidence/verified-evidence.ts';
import type { Caller, Kms } from '../kms.ts';

/** Signs an application's certificate; the request carries its own evidence (docs/protocol/kms.md section 5.6). */
export async function signCert(
  kms: Kms,
  { apiVersion, csr, signature, vmConfig }: proto.SignCertRequest,
  { address }: Pick<Caller, 'address'>,
): Promise<MessageInitShape<typeof proto.SignCertResponseSchema>> {
  const request = readRequest(kms, apiVersion, csr, signature);
  const verified = await verifyEvidence(kms, request, address);
  const names = [request.config.subject, ...request.config.subjectAltNames];
  const authorized = await authorize(kms, verified, {
    event: 'sign-cert',
    kind: 'app',
    address,
    bootTime: true,
    vmConfig,
    accept: () => ({
      certificate_key: createHash('sha256').update(request.pubkey).digest('hex'),
      certificate_names: recordedNames(names),
    }),
  });
  const chain = issueChain(kms, request, verified, authorized);
  kms.log.info({ app_id: Buffer.from(authorized.info.appId).toString('hex'), names }, 'certificate signed');
  return { certificateChain: chain.map(certificatePem) };
}

/** Everything that needs neither network nor evidence, so that bad requests cost little. @throws RpcError */
function readRequest(kms: Kms, apiVersion: number, csr: Uint8Array, signature: Uint8Array): VerifiedCsr {
  try {
    const request = verifyCsr(apiVersion, csr, signature);
    const { notAfter } = issuerOf(kms.keys.rootCa.certificate, kms.keys.rootCa.key);
    const forbiddenNames = [kms.keys.domain];
    checkCsrConfig(request.config, { now: kms.now(), issuerNotAfter: notAfter, forbiddenNames });
    return request;
  } catch (error) {
    throw publicForm(error);
  }
}

function publicForm(error: unknown): unknown {
  if (!(error instanceof RaTlsError)) return error;
  const context = error.code === 'invalid-field' ? 'Failed to sign certificate: ' : '';
  return new RpcError(`${context}${error.message}`, { code: 'INVALID_ARGUMENT', cause: error });
}

/** Reads and verifies the evidence, both under the limit of evidence. */
async function verifyEvidence(
  { evidence, limits }: Kms,
  { pubkey, readEvidence }: VerifiedCsr,
  address: string,
): Promise<VerifiedEvidence> {
  try {
    return await limits.shown(address, (prover) =>
      evidence.readAndVerify(() => ({ spki: pubkey, attestation: readEvidence() }), prover),
    );
  } catch (error) {
    if (!(error instanceof RaTlsError)) throw error;
    if (error.code === 'csr-malformed') throw publicForm(error);
    const image = earlyImageRefusal(error);
    if (image !== undefined) throw image;
    const reason = error.message.replace(/^invalid quote: /, '');
    throw new RpcError(`Quote verification failed: ${reason}`, { code: refusalCode(error), cause: error });
  }
}

function issueChain(...input: Parameters<typeof issue>): Uint8Array[] {
  try {
    return issue(...input);
  } catch (error) {
    throw publicForm(error);
  }
}

/** Leaf, App CA, root. Identities come from the verified evidence only (section 3.5). */
function issue(
  kms: Kms,
  { config, pubkey }: VerifiedCsr,
  verified: VerifiedEvidence,
  { info, assignment }: Authorized,
): Uint8Array[] {
  const { domain } = kms.keys;
  const { rootCa, roots } = assignment.root;
  const evidence = verified.verified();
  const now = Math.floor(kms.now());
  const key = deriveAppCaKey(roots, info.appId, assignment.epochs.current);
  const root = issuerOf(rootCa.certificate, rootCa.key);
  // The certificate of a retired root may end before that of the active one, which was looked at first.
  checkCsrConfig(config, { now, issuerNotAfter: root.notAfter, forbiddenNames: [domain] });
  const ca = appCa({ issuer: root, now, key, appId: info.appId });
  const leaf = appLeaf({
    issuer: issuerOf(ca, key),
    now,
    config,
    spki: pubkey,
    appId: info.appId,
    appInfo: appInfoOf(info, findInitScripts(evidence)),
    attestation: evidence.attestation,
    forbiddenNames: [domain],
  });
  return [leaf, ca, rootCa.certificate];
}
