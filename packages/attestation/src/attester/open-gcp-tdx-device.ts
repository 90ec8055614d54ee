import { createHash } from 'node:crypto';
import { concatBytes, equalBytes, toHex } from '@dstack-cloud/encoding';
import type { RuntimeEvent, TpmEvent, TpmQuote } from '../attestation.ts';
import { AttestationError } from '../errors.ts';
import { EV_NO_ACTION, parseBootLog } from '../events/boot-log.ts';
import { replayRuntimeEvents, runtimeEventDigest } from '../events/runtime-events.ts';
import { parseTpmsAttest } from '../tpm/tpms-attest.ts';
import type { EvidenceDevice } from './evidence-device.ts';
import { openTdxParts, type TdxDeviceOptions, tdxEvidence } from './open-tdx-device.ts';
import { readFileBounded } from './read-file-bounded.ts';
import { gceAttestationKey } from './tpm/gce-attestation-key.ts';
import { withTpm } from './tpm/tpm.ts';
import { extendPcr, readPcrs } from './tpm/tpm-pcr.ts';
import { tpmQuote } from './tpm/tpm-quote.ts';

/** Runtime events go here beside RTMR3. */
const RUNTIME_PCR = 14;
/** More than the original quotes: boot configuration, secure boot, kernel and initrd, command line additions. */
const QUOTED_PCRS: readonly number[] = [0, 2, 4, 5, 7, 9, 11, 12, 13, 14];
const PLATFORM_GCP = 1;
const MAX_LOG = 1 << 20;
const QUOTE_TRIES = 3;

export interface GcpTdxDeviceOptions extends TdxDeviceOptions {
  /** `/dev/tpmrm0`, `unix:PATH` or `tcp:HOST:PORT`. */
  readonly tpm: string;
  /** File of the firmware's TPM log. */
  readonly tpmEventLog: string;
  /** PCRs to quote; must hold 0, 2 and 14. */
  readonly pcrs?: readonly number[];
}

/**
 * A confidential VM of GCP: TDX, and the vTPM whose quote covers the TDX quote (docs/protocol/evidence.md section
 * 12.4).
 * @throws AttestationError `device`
 */
export async function openGcpTdxDevice(options: GcpTdxDeviceOptions): Promise<EvidenceDevice> {
  const { quotes, rtmrs, log, firmware, close } = await openTdxParts(options);
  const pcrs = [...(options.pcrs ?? QUOTED_PCRS)].sort((a, b) => a - b);
  const eventLog = tpmEvents(await readFileBounded(options.tpmEventLog, MAX_LOG));
  return {
    mode: 'dstack-gcp-tdx',
    attest: (reportData) =>
      log.exclusive(async (events) => {
        const tdx = await tdxEvidence(quotes, reportData, events, firmware);
        const vtpm = await quoteTpm(options, tdx.quote, pcrs, events);
        return {
          quote: { mode: 'dstack-gcp-tdx', ...tdx, tpmQuote: { ...vtpm, eventLog } },
          runtimeEvents: events,
          reportData: reportData.slice(),
          config: options.vmConfig(),
        };
      }),
    emitEvent: (event) =>
      log.emit(event, async (logged) => {
        await rtmrs.extend(3, runtimeEventDigest(logged, 'sha384'));
        const sha256 = runtimeEventDigest(logged, 'sha256');
        await withTpm(options.tpm, (tpm) => extendPcr(tpm, RUNTIME_PCR, { sha256 }), options.timeoutMs);
      }),
    events: () => log.exclusive(async (events) => events),
    close,
  };
}

/** A quote over the hash of the TDX quote, with the PCR values that it covers. */
async function quoteTpm(
  options: GcpTdxDeviceOptions,
  tdxQuote: Uint8Array,
  pcrs: readonly number[],
  events: readonly RuntimeEvent[],
): Promise<Omit<TpmQuote, 'eventLog'>> {
  const qualifyingData = sha256(tdxQuote);
  return await withTpm(
    options.tpm,
    async (tpm) => {
      const { key, certificate } = await gceAttestationKey(tpm);
      for (let tries = 1; ; tries++) {
        const { message, signature } = await tpmQuote(tpm, key.handle, qualifyingData, 'sha256', pcrs);
        const readings = await readPcrs(tpm, 'sha256', pcrs);
        const attest = parseTpmsAttest(message);
        if (!equalBytes(attest.extraData, qualifyingData)) {
          throw new AttestationError('device', 'The vTPM quoted other qualifying data');
        }
        const digest = sha256(concatBytes(...readings.map(({ value }) => value)));
        if (!equalBytes(digest, attest.pcrDigest)) {
          // Some other program may extend a register between the quote and the reading.
          if (tries < QUOTE_TRIES) continue;
          throw new AttestationError('device', 'PCRs keep changing while they are quoted');
        }
        requireReplay(readings.find(({ index }) => index === RUNTIME_PCR)?.value, events);
        const pcrValues = readings.map(({ index, value }) => ({ index, algorithm: 'sha256', value }));
        return { message, signature, pcrValues, akCert: certificate, platform: PLATFORM_GCP };
      }
    },
    options.timeoutMs,
  );
}

function requireReplay(found: Uint8Array | undefined, events: readonly RuntimeEvent[]): void {
  const expected = replayRuntimeEvents(events, 'sha256');
  if (found && equalBytes(found, expected)) return;
  throw new AttestationError('event-log', 'The runtime event log does not replay to PCR 14', {
    check: 'tpm.pcr14',
    expected: toHex(expected),
    found: found ? toHex(found) : 'not quoted',
  });
}

/** The firmware's log, SHA-256 digests alone; EV_NO_ACTION extends nothing. */
export function tpmEvents(log: Uint8Array): TpmEvent[] {
  return parseBootLog(log)
    .events.filter((event) => event.type !== EV_NO_ACTION)
    .map((event) => {
      const digest = event.digests.get('sha256');
      if (!digest) throw new AttestationError('event-log', 'The TPM log has an event without SHA-256 digest');
      return { pcrIndex: event.index, digest };
    });
}

function sha256(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(bytes).digest());
}
