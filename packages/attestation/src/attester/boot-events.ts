import { toHex, utf8, utf8Text } from '@dstack-cloud/encoding';
import type { RuntimeEvent, TdxEvent } from '../attestation.ts';
import { AttestationError } from '../errors.ts';
import { EV_NO_ACTION, parseBootLog } from '../events/boot-log.ts';
import { RUNTIME_EVENT_TYPE, runtimeEventDigest, runtimeEventPreimage } from '../events/runtime-events.ts';

const EV_PLATFORM_CONFIG_FLAGS = 0xa;
const ACPI_DATA = 'ACPI DATA';
/**
 * The three ACPI measurements of the firmware come in this order and have no name in the log (docs/protocol/images.md
 * section 4.2).
 */
const ACPI_NAMES = ['acpi-loader', 'acpi-rsdp', 'acpi-tables'];

/** The firmware's CCEL as events of RTMR 0 to 3; MR index 0 and EV_NO_ACTION measure nothing and are dropped. */
export function bootEvents(ccel: Uint8Array): TdxEvent[] {
  let acpi = 0;
  return parseBootLog(ccel)
    .events.filter((event) => event.index !== 0 && event.type !== EV_NO_ACTION)
    .map((event) => {
      const digest = event.digests.get('sha384');
      if (!digest || event.index > 4) {
        throw new AttestationError('event-log', 'The CCEL has an event without a register or SHA-384 digest');
      }
      const named =
        event.index === 1 && event.type === EV_PLATFORM_CONFIG_FLAGS && isAcpiData(event.data)
          ? ACPI_NAMES[acpi++]
          : undefined;
      return {
        imr: event.index - 1,
        eventType: event.type,
        digest,
        event: named ?? '',
        eventPayload: event.data,
      };
    });
}

/** A runtime event as the TDX log shows it. */
export function runtimeTdxEvent({ event, payload, version }: RuntimeEvent): TdxEvent {
  return {
    imr: 3,
    eventType: RUNTIME_EVENT_TYPE,
    digest: runtimeEventDigest({ event, payload, ...(version ? { version } : {}) }, 'sha384'),
    event,
    eventPayload: payload,
    ...(version ? { version, preimage: toHex(utf8(runtimeEventPreimage({ event, payload, version }))) } : {}),
  };
}

function isAcpiData(data: Uint8Array): boolean {
  if (data.length !== ACPI_DATA.length) return false;
  try {
    return utf8Text(data) === ACPI_DATA;
  } catch {
    return false;
  }
}
