import { AppError, parseAppCompose } from '@dstack-cloud/app';
import { AttestationError } from '@dstack-cloud/attestation';
import { VmmError } from '../errors.ts';
import type { HostShared } from '../folder/shared-update.ts';

/**
 * Refuses an approval that the machine would refuse: it serves an application with key provider `tpm` alone, and is signed
 * by the key which that application names.
 *
 * @throws VmmError `bad_option`
 */
export async function checkSealApproval(shared: HostShared): Promise<void> {
  const approval = shared['.seal-approval.json'];
  if (approval === undefined) return;
  const { keyProvider, sealApprovalKey } = parse(shared['app-compose.json']);
  if (keyProvider !== 'tpm')
    throw new VmmError(
      'bad_option',
      `The application seals nothing in a TPM (key_provider ${keyProvider}), so .seal-approval.json serves nothing: remove it`,
      { expected: 'key_provider tpm', found: `key_provider ${keyProvider}` },
    );
  // Only here: nobody else needs the TPM's code.
  const { requireSealApproval } = await import('@dstack-cloud/attestation/attester');
  try {
    requireSealApproval(approval, sealApprovalKey);
  } catch (cause) {
    if (!(cause instanceof AttestationError)) throw cause;
    const { message, expected, found } = cause;
    throw new VmmError(
      'bad_option',
      `.seal-approval.json cannot be used: ${message}. Make one with dstack-cloud seal approve, or remove the file`,
      { cause, ...(expected === undefined ? {} : { expected }), ...(found === undefined ? {} : { found }) },
    );
  }
}

function parse(bytes: Uint8Array = new Uint8Array()): ReturnType<typeof parseAppCompose> {
  try {
    return parseAppCompose(bytes);
  } catch (cause) {
    if (!(cause instanceof AppError)) throw cause;
    throw new VmmError('bad_option', cause.message, { cause });
  }
}
