import { AttestationError, type Check } from '@dstack-cloud/attestation';

/** The checks of a refusal, the failing one last: also where reading failed before any check was made. */
export function withFailedCheck(
  checks: readonly Check[],
  error: Error,
  otherwise: string = 'evidence.form',
): readonly Check[] {
  if (checks.some((check) => !check.ok)) return checks;
  const { check, expected, found } = error instanceof AttestationError ? error : {};
  const failed: Check = {
    id: check ?? otherwise,
    ok: false,
    ...(expected === undefined ? {} : { expected }),
    found: found ?? error.message,
    reference: 'docs/protocol/evidence.md section 1',
  };
  return [...checks, failed];
}
