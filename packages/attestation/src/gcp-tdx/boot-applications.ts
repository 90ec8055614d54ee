import { equalBytes, fromHex, toHex } from '@dstack-cloud/encoding';
import type { TpmEvent } from '../attestation.ts';
import { replayDigests } from '../events/replay.ts';
import { requireUntouched } from '../tpm/require-untouched.ts';
import type { QuotedPcr } from '../tpm/verify-quote.ts';
import type { VerifyContext } from '../verify-context.ts';

const PROFILE = 'TCG PC Client Platform Firmware Profile section 3.3.4';
/** SHA-256 of four zero bytes: EV_SEPARATOR (TCG PC Client Platform Firmware Profile section 2.3.4). */
const SEPARATOR = fromHex('df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119');
/** SHA-256 of the EV_EFI_ACTION before the first boot option is tried (section 10.4.4). */
const CALLING_APPLICATION = fromHex('3d6772b4f84ed47595d72a2c4c5ffd15f5bb72c7507fe26f2aaee2c69d5633ba');
const UKI_PLACE = 2;
const KERNEL_PLACE = 3;

/**
 * What GCE's firmware measures into PCR 2 when it boots a UKI, and nothing else: separator, GPT, the UKI and
 * the kernel inside, which the UKI's stub starts through the firmware. The original looks at the third event
 * alone, so that anything may have been started after it. Without `kernelDigest` a UKI that failed before its
 * kernel started, and a fallback entry after it, look the same as a good boot: so give it where it is known.
 * @param kernelDigest expected fourth event, where the image's metadata tells it
 * @returns the UKI's Authenticode SHA-256
 */
export function ukiFromPcr2(
  events: readonly TpmEvent[],
  kernelDigest: Uint8Array | undefined,
  { checks }: Pick<VerifyContext, 'checks'>,
): Uint8Array {
  const digests = events.filter((event) => event.pcrIndex === 2).map((event) => event.digest);
  const uki = digests[UKI_PLACE];
  checks.require(uki !== undefined, {
    id: 'image.pcr2-events',
    reference: PROFILE,
    code: 'event-log',
    message: 'The TPM log has no UKI among its PCR 2 events: nothing identifies the image',
    expected: 'separator, GPT, UKI, kernel',
    found: `${digests.length} events`,
  });
  const kernel = digests[KERNEL_PLACE];
  const regular =
    equalBytes(digests[0]!, SEPARATOR) &&
    // No two are alike: a UKI that is started again is a fallback entry after a failed boot.
    new Set(digests.map(toHex)).size === digests.length &&
    digests.length === KERNEL_PLACE + 1 &&
    (kernelDigest === undefined || equalBytes(kernel!, kernelDigest));
  checks.require(regular, {
    id: 'image.pcr2-sequence',
    reference: PROFILE,
    code: 'event-log',
    message: 'PCR 2 is not exactly separator, GPT, UKI and kernel: something else was started',
    expected: kernelDigest ? `separator, GPT, UKI, ${toHex(kernelDigest)}` : 'separator, GPT, UKI, kernel',
    found: digests.slice(0, 8).map(toHex).join(', '),
  });
  return uki!;
}

/**
 * What else is measured where something was loaded beside the image. On GCE all boot applications are in PCR 2, so that
 * PCR 4 says only that one boot option was tried. PCR 12 has what the boot stub took from outside of the image (command
 * lines, add-ons, credentials), PCR 13 the system extensions; an add-on need not be signed where Secure Boot is off, and
 * can put `rdinit=/bin/sh` on the command line. Registers that are not quoted are not checked, but a log that tells of
 * such an event is believed.
 */
export function requireNothingElse(
  pcrs: readonly QuotedPcr[],
  events: readonly TpmEvent[],
  { checks }: Pick<VerifyContext, 'checks'>,
): void {
  const oneOption = replayDigests([CALLING_APPLICATION, SEPARATOR], 'sha256');
  const pcr4 = pcrs.find(({ index }) => index === 4);
  checks.require(pcr4 === undefined || equalBytes(pcr4.value, oneOption), {
    id: 'image.pcr4',
    reference: PROFILE,
    code: 'event-log',
    message: 'PCR 4 is not that of one boot option: something else was started',
    expected: () => `${toHex(oneOption)} (one boot option, separator)`,
    found: () => (pcr4 ? toHex(pcr4.value) : 'not quoted'),
  });
  for (const register of [12, 13] as const) {
    requireUntouched(register, pcrs.find(({ index }) => index === register)?.value, events, checks);
  }
}
