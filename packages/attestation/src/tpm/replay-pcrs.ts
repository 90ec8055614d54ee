import { equalBytes, toHex } from '@dstack-cloud/encoding';
import type { TpmEvent } from '../attestation.ts';
import { replayDigests } from '../events/replay.ts';
import type { VerifyContext } from '../verify-context.ts';
import type { QuotedPcr } from './verify-quote.ts';

const PCR_BYTES = 32;
const MAX_EVENTS = 10_000;
/**
 * Values of the last byte of PCR 0 at start: the locality of TPM2_Startup (TCG PC Client Platform Firmware
 * Profile section 3.3.4). Evidence does not carry the StartupLocality event, which extends nothing; a start
 * from another value than zero cannot be chosen to reach a given PCR 0, so each is tried.
 */
const STARTUP_LOCALITIES = [0, 3, 4];

/**
 * For every quoted PCR that has events, the replay of its events must be its value (docs/protocol/verification.md
 * section 4 step 4). PCRs without events are not checked here.
 * @throws AttestationError `event-log`, `malformed`, `too-large`
 */
export function requireReplay(
  pcrs: readonly QuotedPcr[],
  events: readonly TpmEvent[],
  { checks }: Pick<VerifyContext, 'checks'>,
): void {
  checks.require(events.length <= MAX_EVENTS, {
    id: 'tpm.event-count',
    reference: 'docs/protocol/verification.md section 4 step 4',
    code: 'too-large',
    message: 'The TPM event log has too many events',
    expected: `at most ${MAX_EVENTS}`,
    found: String(events.length),
  });
  const odd = events.find((event) => event.digest.length !== PCR_BYTES);
  checks.require(odd === undefined, {
    id: 'tpm.event-digests',
    reference: 'docs/protocol/verification.md section 4 step 4',
    code: 'malformed',
    message: 'A TPM event has a digest that is not SHA-256',
    expected: `${PCR_BYTES} bytes`,
    found: odd && `${odd.digest.length} bytes`,
  });
  for (const pcr of pcrs) {
    const digests = events.filter((event) => event.pcrIndex === pcr.index).map((event) => event.digest);
    if (digests.length === 0) continue;
    const starts = pcr.index === 0 ? STARTUP_LOCALITIES : [0];
    const replays = starts.map((locality) => replayDigests(digests, 'sha256', startValue(locality)));
    checks.require(
      replays.some((replay) => equalBytes(replay, pcr.value)),
      {
        id: `tpm.replay-pcr${pcr.index}`,
        reference: 'docs/protocol/verification.md section 4 step 4',
        code: 'event-log',
        message: `PCR ${pcr.index} is not the replay of its events`,
        expected: toHex(pcr.value),
        found: toHex(replays[0]!),
      },
    );
  }
}

function startValue(locality: number): Uint8Array {
  const value = new Uint8Array(PCR_BYTES);
  value[PCR_BYTES - 1] = locality;
  return value;
}
