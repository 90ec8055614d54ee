import { bootstrapReportData } from '@dstack-cloud/keys';
import type { Rotation } from './commit-rotation.ts';
import type { KmsKeys, Root } from './kms-keys.ts';
import {
  type Attest,
  issueRpcCertificate,
  keyFilesOf,
  type RootSecrets,
  retiredFilesOf,
  rootFor,
} from './new-keys.ts';

/**
 * Makes everything that goes with a new root, as Bootstrap does: evidence over its public keys and a certificate for
 * the RPC key, which stays, as does the temporary CA. Nothing is on disk afterwards.
 * @param now unix seconds
 */
export async function makeRotation(
  keys: KmsKeys,
  secrets: RootSecrets,
  now: number,
  attest: Attest | undefined,
): Promise<{ root: Root; rotation: Rotation }> {
  const bare = rootFor(secrets, now);
  const caPubkey = secrets.ca.spki;
  const attestation =
    attest === undefined ? new Uint8Array() : await attest(bootstrapReportData(caPubkey, bare.k256Pubkey));
  const root = { ...bare, bootstrapInfo: { caPubkey, k256Pubkey: bare.k256Pubkey, attestation } };
  const next = { ...keys, ...root };
  const active = keyFilesOf(next, await issueRpcCertificate(next, now, attest));
  // These are the KMS's own, whatever its root.
  for (const name of ['tmp-ca.key', 'tmp-ca.crt', 'rpc.key', 'rpc-domain'] as const) active.delete(name);
  const retired = retiredFilesOf({ ...keys, successor: root.id }, now);
  return { root, rotation: { id: keys.id, retired, active } };
}
