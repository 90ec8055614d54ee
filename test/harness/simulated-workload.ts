/**
 * A workload in a simulated TD without any process: its events, its evidence, its RA-TLS identity. For attacks,
 * which need evidence that no honest guest would make, and for load.
 */
import {
  type Attestation,
  type RuntimeEvent,
  replayRuntimeEvents,
  type TdxEvent,
} from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import type { P256Key } from '@dstack-cloud/keys';
import { tempClientIdentity } from '@dstack-cloud/ra-tls';
import {
  type SimulatedBoot,
  type SimulatedPlatform,
  simulatedBoot,
  type TdState,
} from '@dstack-cloud/tee-simulator';

export type Workload = {
  /** 20 bytes. */
  appId: Uint8Array;
  /** 32 bytes. */
  composeHash: Uint8Array;
  /** 20 bytes, or empty. */
  instanceId: Uint8Array;
  /** Name of the OS image. */
  image: string;
  /** Events after `boot-mr-done`; default none. */
  laterEvents?: RuntimeEvent[];
};

/** What an attack changes; nothing by default. */
export type Tampering = {
  td?: Partial<TdState>;
  /** Changes the quote after it was signed. */
  quote?: (quote: Uint8Array) => Uint8Array;
  /** Replaces the report data that the hardware signs. */
  reportData?: Uint8Array;
  /** Replaces the runtime events that are shown, not those that were measured. */
  shownEvents?: RuntimeEvent[];
  config?: string;
};

/** The events of an honest boot, in their order (docs/protocol/event-logs.md section 4.1). */
export function bootEvents(workload: Workload): RuntimeEvent[] {
  const event = (name: string, payload: Uint8Array = new Uint8Array()): RuntimeEvent => ({
    event: name,
    payload,
  });
  return [
    event('system-preparing'),
    event('app-id', workload.appId),
    event('compose-hash', workload.composeHash),
    event('instance-id', workload.instanceId),
    event('boot-mr-done'),
    ...(workload.laterEvents ?? []),
  ];
}

/** As contract calls take it. */
export const hexOf = (bytes: Uint8Array): `0x${string}` => `0x${toHex(bytes)}`;

const boots = new Map<string, SimulatedBoot>();

/** The measurements of an image, made once. */
export function bootOf(image: string): SimulatedBoot {
  let boot = boots.get(image);
  if (boot === undefined) {
    boot = simulatedBoot({ image });
    boots.set(image, boot);
  }
  return boot;
}

/** Names that a guest gives the three ACPI measurements, in their order. */
const ACPI_NAMES = ['acpi-loader', 'acpi-rsdp', 'acpi-tables'];

function bootLog(boot: SimulatedBoot): TdxEvent[] {
  const acpi = [...ACPI_NAMES];
  return boot.events.map(({ rtmr, type, digest, data }) => ({
    imr: rtmr,
    eventType: type,
    digest,
    event: rtmr === 0 && type === 0xa ? (acpi.shift() ?? '') : '',
    eventPayload: data,
  }));
}

/** Evidence of a workload over `reportData` (64 bytes). */
export function attest(
  platform: SimulatedPlatform,
  workload: Workload,
  reportData: Uint8Array,
  tampering: Tampering = {},
): Attestation {
  const boot = bootOf(workload.image);
  const runtimeEvents = bootEvents(workload);
  const signed = tampering.reportData ?? reportData;
  const quote = platform.quote(signed, {
    mrTd: boot.mrTd,
    rtmrs: [...boot.rtmrs, replayRuntimeEvents(runtimeEvents, 'sha384')],
    ...tampering.td,
  });
  return {
    quote: {
      mode: 'dstack-tdx',
      quote: tampering.quote?.(quote) ?? quote,
      eventLog: bootLog(boot),
    },
    runtimeEvents: tampering.shownEvents ?? runtimeEvents,
    reportData: signed,
    config: tampering.config ?? JSON.stringify(boot.vmConfig),
  };
}

/** Certificate and key (PEM) of a workload, under a KMS's temporary CA. */
export function clientIdentity(options: {
  platform: SimulatedPlatform;
  workload: Workload;
  tempCaCert: string;
  tempCaKey: string;
  tampering?: Tampering;
  key?: P256Key;
  now?: number;
}): Promise<{ cert: string; key: string }> {
  const { platform, workload, tempCaCert, tempCaKey, tampering, key } = options;
  return tempClientIdentity({
    tempCaCert,
    tempCaKey,
    now: options.now ?? Math.floor(Date.now() / 1000),
    attest: (reportData) => Promise.resolve(attest(platform, workload, reportData, tampering)),
    ...(key === undefined ? {} : { key }),
  });
}
