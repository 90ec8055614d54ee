import { bootstrapReportData, k256PublicKey } from '@dstack-cloud/keys';
import { RpcError } from '@dstack-cloud/prpc';
import { commitKeyFiles } from '../key-directory/commit.ts';
import type { BootstrapInfo } from '../key-directory/kms-keys.ts';
import {
  historyFilesOf,
  issueRpcCertificate,
  keyFilesOf,
  keysFor,
  type SharedKeys,
} from '../key-directory/new-keys.ts';
import { attestOf, type OnboardingContext } from './onboarding-context.ts';

/** What it takes to decide whether this KMS may have root keys, and to write them. */
export type RootKeeper = Pick<OnboardingContext, 'config' | 'agent' | 'self' | 'now' | 'fs'>;

/**
 * The policy source must know this KMS before it has keys.
 * @param action for the error text: "bootstrap", "restore" or "rotate the root"
 * @throws RpcError `KMS is not allowed to …`
 */
export async function assertSelfAllowed({ config, self }: RootKeeper, action: string): Promise<void> {
  if (!config.core.enforce_self_authorization) return;
  const decision = await self.decide().catch((error: unknown) => {
    if (!(error instanceof RpcError)) throw error;
    const text = `KMS is not allowed to ${action}: failed to call KMS auth check: ${error.message}`;
    throw new RpcError(text, { code: 'UNAVAILABLE', cause: error });
  });
  if (decision.allowed) return;
  throw new RpcError(`KMS is not allowed to ${action}: boot denied: ${decision.reason}`, {
    code: 'UNAUTHORIZED',
  });
}

/**
 * Makes everything that goes with root keys (evidence over them, certificates, RPC key), then brings the key directory
 * into being as one step. Nothing is on disk before everything is made.
 * @throws KmsError `keys-exist` when a root is there already
 */
export async function storeRoot(
  keeper: RootKeeper,
  shared: SharedKeys,
  domain: string,
): Promise<BootstrapInfo> {
  const { config, now, fs } = keeper;
  const attest = attestOf(keeper);
  const k256Pubkey = k256PublicKey(shared.k256);
  const reportData = bootstrapReportData(shared.ca.spki, k256Pubkey);
  const attestation = attest === undefined ? new Uint8Array() : await attest(reportData);
  const info = { caPubkey: shared.ca.spki, k256Pubkey, attestation };
  const keys = keysFor(shared, domain, Math.floor(now()), info);
  const certificate = await issueRpcCertificate(keys, Math.floor(now()), attest);
  await commitKeyFiles(config.core.cert_dir, keyFilesOf(keys, certificate), fs, historyFilesOf(keys));
  return info;
}
