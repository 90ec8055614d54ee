import type { EvidenceDevice } from '@dstack-cloud/attestation/attester';
import { isZero, toHex } from '@dstack-cloud/encoding';
import { tdReportOf } from '../agent/measurements.ts';
import { GuestError } from '../errors.ts';

/**
 * A boot starts with RTMR3 zero; the device forgets an earlier boot's log by itself then. A register that is already
 * extended means that this boot was measured before: its identity stands, and another one must not be added to it.
 *
 * @throws GuestError `already-measured`
 */
export async function requireUnmeasured(device: EvidenceDevice): Promise<void> {
  const rtmr3 = tdReportOf(await device.attest(new Uint8Array(64))).rtmrs[3];
  if (isZero(rtmr3)) return;
  throw new GuestError('already-measured', 'RTMR3 is already extended: a machine is prepared once per boot', {
    expected: toHex(new Uint8Array(48)),
    found: toHex(rtmr3),
  });
}
