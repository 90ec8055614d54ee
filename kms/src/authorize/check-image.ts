import { AttestationError, needsOsImage, verifyOsImage } from '@dstack-cloud/attestation';
import { RpcError } from '@dstack-cloud/prpc';
import type { KmsConfig } from '../config/kms-config.ts';
import { KmsError } from '../errors.ts';
import type { ConfiguredEvidence } from '../evidence/verified-evidence.ts';
import { IMAGE_REFUSAL, imageRefusal } from '../image/image-refusal.ts';
import type { OsImages } from '../image/os-images.ts';

/** Modes whose image check costs nothing and is made whatever `image.verify` says. */
const ALWAYS: readonly string[] = ['dstack-nitro-enclave', 'dstack-gcp-tdx'];

type Checking = { readonly config: KmsConfig; readonly images: OsImages };

/** Whether the check may have to download the image: then the policy is asked first. */
export function needsImageDownload(evidence: ConfiguredEvidence, { config }: Checking): boolean {
  if (!config.core.image.verify || evidence.isImageChecked) return false;
  try {
    return needsOsImage(evidence.verified());
  } catch {
    // The check itself says what is wrong.
    return false;
  }
}

/**
 * That the evidence is of the image which its configuration names (docs/protocol/images.md section 5).
 * @throws RpcError
 */
export async function checkImage(evidence: ConfiguredEvidence, { config, images }: Checking): Promise<void> {
  if (!config.core.image.verify && !ALWAYS.includes(evidence.mode)) return;
  if (evidence.isImageChecked) return;
  try {
    const verified = evidence.verified();
    if (needsOsImage(verified)) await images.check(verified);
    else await verifyOsImage(verified);
    evidence.isImageChecked = true;
  } catch (error) {
    if (error instanceof KmsError) {
      throw new RpcError(`${IMAGE_REFUSAL}: ${error.message}`, {
        code: error.code === 'image-invalid' ? 'MEASUREMENT_NOT_FOUND' : 'UNAVAILABLE',
        cause: error,
      });
    }
    if (!(error instanceof AttestationError)) throw error;
    // The hash of an enclave is computed from its PCRs; the others are registers or digests as they are.
    throw imageRefusal(error, evidence.mode === 'dstack-nitro-enclave' ? 'computed' : 'actual');
  }
}
