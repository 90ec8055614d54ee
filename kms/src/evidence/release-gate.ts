import type { AttestationMode } from '@dstack-cloud/attestation';
import { RpcError } from '@dstack-cloud/prpc';
import type { KmsConfig } from '../config/kms-config.ts';

/**
 * Why a platform gets no keys at all: an operator must switch it on or may switch it off.
 * Undefined for those that may get some.
 */
export function closedGate(mode: AttestationMode, { core }: KmsConfig): string | undefined {
  const gates: Partial<Record<AttestationMode, [boolean, string]>> = {
    'dstack-amd-sev-snp': [core.sev_snp_key_release, 'amd sev-snp key release is not enabled'],
    'dstack-aws-nitro-tpm': [core.aws_nitro_tpm_key_release, 'aws nitro-tpm key release is not enabled'],
    'dstack-nitro-enclave': [core.nitro_enclave_key_release, 'nitro enclave key release is not enabled'],
  };
  const gate = gates[mode];
  return gate === undefined || gate[0] ? undefined : gate[1];
}

/** @throws RpcError for a platform that gets no keys */
export function assertReleaseAllowed(mode: AttestationMode, config: KmsConfig): void {
  const reason = closedGate(mode, config);
  if (reason !== undefined) throw new RpcError(reason, { code: 'UNAUTHORIZED' });
}
