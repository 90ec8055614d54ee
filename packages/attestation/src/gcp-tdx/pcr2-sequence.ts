import { equalBytes, fromHex, toHex } from '@dstack-cloud/encoding';
import type { TpmEvent } from '../attestation.ts';
import type { VerifyContext } from '../verify-context.ts';

const SECTION = 'chapter 20 section 4.6';
/** SHA-256 of four zero bytes: EV_SEPARATOR (TCG PC Client Platform Firmware Profile section 2.3.4). */
const SEPARATOR = fromHex('df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119');
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
    reference: SECTION,
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
    reference: SECTION,
    code: 'event-log',
    message: 'PCR 2 is not exactly separator, GPT, UKI and kernel: something else was started',
    expected: kernelDigest ? `separator, GPT, UKI, ${toHex(kernelDigest)}` : 'separator, GPT, UKI, kernel',
    found: digests.slice(0, 8).map(toHex).join(', '),
  });
  return uki!;
}
