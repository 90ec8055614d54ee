import {
  AttestationError,
  needsOsImage,
  type VerifiedAttestation,
  verifyOsImage,
} from '@dstack-cloud/attestation';
import { RpcError } from '@dstack-cloud/prpc';
import type { KmsConfig } from '../config/kms-config.ts';
import { KmsError } from '../errors.ts';
import { IMAGE_REFUSAL, imageRefusal } from '../image/image-refusal.ts';
import type { OsImages } from '../image/os-images.ts';

/** Modes whose image check costs nothing and is made whatever `image.verify` says. */
const ALWAYS: readonly string[] = ['dstack-nitro-enclave', 'dstack-gcp-tdx'];

/** Evidence whose image was found right: the check needs nothing but the evidence and its configuration. */
const passed = new WeakSet<VerifiedAttestation>();

type Checking = { readonly config: KmsConfig; readonly images: OsImages };

/** Whether the check may have to download the image: then the policy is asked first. */
export function needsImageDownload(verified: VerifiedAttestation, { config }: Checking): boolean {
  if (!config.core.image.verify || passed.has(verified)) return false;
  try {
    return needsOsImage(verified);
  } catch {
    // The check itself says what is wrong.
    return false;
  }
}

/**
 * That the evidence is of the image which its configuration names (docs/protocol/images.md section 5).
 * @throws RpcError
 */
export async function checkImage(verified: VerifiedAttestation, { config, images }: Checking): Promise<void> {
  if (!config.core.image.verify && !ALWAYS.includes(verified.mode)) return;
  if (passed.has(verified)) return;
  try {
    if (needsOsImage(verified)) await images.check(verified);
    else await verifyOsImage(verified);
    passed.add(verified);
  } catch (error) {
    if (error instanceof KmsError) {
      throw new RpcError(`${IMAGE_REFUSAL}: ${error.message}`, {
        code: error.code === 'image-invalid' ? 'MEASUREMENT_NOT_FOUND' : 'UNAVAILABLE',
        cause: error,
      });
    }
    if (!(error instanceof AttestationError)) throw error;
    // The hash of an enclave is computed from its PCRs; the others are registers or digests as they are.
    throw imageRefusal(error, verified.mode === 'dstack-nitro-enclave' ? 'computed' : 'actual');
  }
}
