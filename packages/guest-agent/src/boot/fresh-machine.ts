import { rename, rm } from 'node:fs/promises';
import type { EvidenceDevice } from '@dstack-cloud/attestation/obtain';
import { isZero, toHex } from '@dstack-cloud/encoding';
import { tdReportOf } from '../agent/measurements.ts';
import { GuestError } from '../errors.ts';

/**
 * A boot starts with RTMR3 zero. Where /run is a directory, the log of an earlier boot (and the marker of an event that
 * was cut off) survives: it is put away and removed. A register that is already extended means that this boot was
 * measured before; then the log is put back and the boot refused.
 *
 * @throws GuestError `already-measured`
 */
export async function requireUnmeasured(device: EvidenceDevice, eventLog: string): Promise<void> {
  const files = [eventLog, `${eventLog}.unfinished`];
  for (const file of files) await move(file, aside(file));
  let rtmr3: Uint8Array | undefined;
  try {
    rtmr3 = tdReportOf(await device.attest(new Uint8Array(64))).rtmrs[3];
  } finally {
    const fresh = rtmr3 !== undefined && isZero(rtmr3);
    for (const file of files) await (fresh ? rm(aside(file), { force: true }) : move(aside(file), file));
  }
  if (!isZero(rtmr3)) {
    throw new GuestError(
      'already-measured',
      'RTMR3 is already extended: a machine is prepared once per boot',
      {
        expected: toHex(new Uint8Array(48)),
        found: toHex(rtmr3),
      },
    );
  }
}

const aside = (file: string): string => `${file}.earlier`;

async function move(from: string, to: string): Promise<void> {
  await rename(from, to).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}
