import { isZero, toHex } from '@dstack-cloud/encoding';
import type { TpmEvent } from '../attestation.ts';
import type { VerifyContext } from '../verify-context.ts';

/**
 * Nothing was measured into a register that takes what a boot stub loads from outside of the image: 12 has command
 * lines, add-ons and credentials, 13 system extensions. A register that was not quoted is checked by the log alone.
 * @throws AttestationError `event-log`
 */
export function requireUntouched(
  index: 12 | 13,
  value: Uint8Array | undefined,
  events: readonly TpmEvent[],
  checks: VerifyContext['checks'],
): void {
  const logged = events.filter((event) => event.pcrIndex === index).length;
  checks.require(logged === 0 && (value === undefined || isZero(value)), {
    id: `image.pcr${index}`,
    reference: 'UAPI Group, Linux TPM PCR Registry',
    code: 'event-log',
    message: `Something was loaded beside the image: PCR ${index} is not zero`,
    expected: 'zero, and no event',
    found: () => `${value ? toHex(value) : 'not quoted'}, ${logged} events`,
  });
}
