import type { AttestationMode } from '@dstack-cloud/attestation';
import { RpcError } from '@dstack-cloud/prpc';
import type { KmsConfig } from '../config/kms-config.ts';

/** Platforms whose keys an operator must switch on or may switch off (chapter 10 section 5.2). @throws RpcError */
export function assertReleaseAllowed(mode: AttestationMode, { core }: KmsConfig): void {
  const gates: Partial<Record<AttestationMode, [boolean, string]>> = {
    'dstack-amd-sev-snp': [core.sev_snp_key_release, 'amd sev-snp key release is not enabled'],
    'dstack-aws-nitro-tpm': [core.aws_nitro_tpm_key_release, 'aws nitro-tpm key release is not enabled'],
    'dstack-nitro-enclave': [core.nitro_enclave_key_release, 'nitro enclave key release is not enabled'],
  };
  const gate = gates[mode];
  if (gate !== undefined && !gate[0]) throw new RpcError(gate[1], { code: 'UNAUTHORIZED' });
}
