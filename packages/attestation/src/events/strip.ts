import { equalBytes, utf8 } from '@dstack-cloud/encoding';
import type { Attestation, TdxEvent } from '../attestation.ts';
import { RUNTIME_EVENT_TYPE } from './runtime-events.ts';

const EV_EFI_PLATFORM_CONFIG_FLAGS = 0x0000000a;
const ACPI_DATA = utf8('ACPI DATA');
const NOTHING = new Uint8Array();

/** One of the three RTMR0 events that measure ACPI tables; a TDX-lite verifier needs their digests. */
export function isAcpiData(event: TdxEvent): boolean {
  return (
    event.imr === 0 &&
    event.eventType === EV_EFI_PLATFORM_CONFIG_FLAGS &&
    equalBytes(event.eventPayload, ACPI_DATA)
  );
}

/**
 * Reduces one event: runtime events of version 1 lose the digest, which can be recomputed, and those of version 2 keep
 * it, since readers of the original's newer line hold their preimage against it; others lose the payload, which nothing
 * checks.
 */
export function stripEvent(event: TdxEvent): TdxEvent {
  if (event.eventType === RUNTIME_EVENT_TYPE)
    return event.version === 2 ? event : { ...event, digest: NOTHING };
  return { ...event, eventPayload: NOTHING };
}

/** The form that goes into a certificate: of the TDX log only imr 3 and, for plain TDX, the ACPI events. */
export function stripForCertificate(attestation: Attestation): Attestation {
  const { quote } = attestation;
  if (quote.mode !== 'dstack-tdx' && quote.mode !== 'dstack-gcp-tdx') return attestation;
  const keepsAcpi = quote.mode === 'dstack-tdx';
  const eventLog = quote.eventLog
    .filter((event) => event.imr === 3 || (keepsAcpi && isAcpiData(event)))
    .map((event) => (isAcpiData(event) ? event : stripEvent(event)));
  return { ...attestation, quote: { ...quote, eventLog } };
}
