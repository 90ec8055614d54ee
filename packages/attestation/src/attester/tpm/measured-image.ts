import { equalBytes, toHex } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import { EV_NO_ACTION, parseBootLog } from '../../events/boot-log.ts';
import { replayDigests } from '../../events/replay.ts';
import { readFileBounded } from '../read-file-bounded.ts';
import type { Tpm } from './tpm.ts';
import { readPcrs } from './tpm-pcr.ts';

/** EV_EFI_BOOT_SERVICES_APPLICATION (TCG PC Client Platform Firmware Profile section 10.4.1). */
const BOOT_APPLICATION = 0x80000003;
/** Where firmware measures boot applications: 4, and on GCE 2. */
const IMAGE_PCRS: readonly number[] = [2, 4];
const BANK = 'sha256';
const MAX_LOG = 1 << 20;

/**
 * Demands that the firmware of this machine has measured what it booted: its log replays to the registers, and names a
 * boot application in one of them. Where a host loads the kernel by itself no register says what runs, and what is sealed
 * to them would open for every system.
 * @param logFile binary_bios_measurements, whose size the kernel does not tell
 * @throws AttestationError `event-log`
 */
export async function requireMeasuredImage(tpm: Tpm, logFile: string): Promise<void> {
  const events = parseBootLog(await readFileBounded(logFile, MAX_LOG)).events.filter(
    ({ type }) => type !== EV_NO_ACTION,
  );
  for (const { index, value } of await readPcrs(tpm, BANK, IMAGE_PCRS)) {
    const digests = events.filter((event) => event.index === index).map((event) => event.digests.get(BANK));
    const known = digests.filter((digest) => digest !== undefined);
    const replayed = replayDigests(known, BANK);
    if (known.length === digests.length && equalBytes(replayed, value)) continue;
    throw new AttestationError('event-log', `The log of the firmware does not replay to PCR ${index}`, {
      check: 'tpm.image',
      expected: toHex(value),
      found: toHex(replayed),
    });
  }
  if (events.some(({ index, type }) => type === BOOT_APPLICATION && IMAGE_PCRS.includes(index))) return;
  throw new AttestationError(
    'event-log',
    'The firmware measured no boot application: no register of the TPM says which system runs. Boot the disk of the image, not its kernel',
    {
      check: 'tpm.image',
      expected: 'a boot application in PCR 4 or 2',
      found: `${events.length} other events`,
    },
  );
}
