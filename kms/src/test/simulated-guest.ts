import {
  type Attestation,
  encodeAttestation,
  type RuntimeEvent,
  replayRuntimeEvents,
} from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import {
  type QuoteOptions,
  type SimulatedBoot,
  type SimulatedPlatform,
  simulatedBoot,
  type TdState,
} from '@dstack-cloud/tee-simulator';
import type { GuestAgent } from '../agent/guest-agent.ts';

export type GuestIdentity = {
  readonly platform: SimulatedPlatform;
  readonly appId?: Uint8Array;
  readonly composeHash?: Uint8Array;
  readonly instanceId?: Uint8Array;
  readonly image?: string;
  /** What the machine booted, instead of an image of that name with a measurement document. */
  readonly boot?: SimulatedBoot;
  /** Events after `boot-mr-done`, or instead of the usual ones. */
  readonly events?: readonly RuntimeEvent[];
  readonly td?: Partial<TdState>;
  readonly quote?: QuoteOptions;
  /** Replaces the VM configuration in the evidence. */
  readonly config?: string;
};

export type SimulatedGuest = {
  readonly vmConfig: string;
  readonly osImageHash: string;
  attest(reportData: Uint8Array): Attestation;
};

/** Boot events of one application, as measured before it asks for keys. */
export function bootEvents(identity: GuestIdentity): RuntimeEvent[] {
  const none = new Uint8Array();
  return [
    { event: 'system-preparing', payload: none },
    { event: 'app-id', payload: identity.appId ?? new Uint8Array(20).fill(0x11) },
    { event: 'compose-hash', payload: identity.composeHash ?? new Uint8Array(32).fill(0x22) },
    { event: 'instance-id', payload: identity.instanceId ?? new Uint8Array(20).fill(0x33) },
    { event: 'boot-mr-done', payload: none },
  ];
}

/** A guest on simulated TDX whose evidence is complete: image, boot events, RTMR3. */
export function simulatedGuest(identity: GuestIdentity): SimulatedGuest {
  const boot = identity.boot ?? simulatedBoot({ image: identity.image ?? 'kms-test' });
  const events = identity.events ?? bootEvents(identity);
  const rtmr3 = replayRuntimeEvents(events, 'sha384');
  const td: TdState = { mrTd: boot.mrTd, rtmrs: [...boot.rtmrs, rtmr3], ...identity.td };
  const vmConfig = JSON.stringify(boot.vmConfig);
  const acpiNames = ['acpi-loader', 'acpi-rsdp', 'acpi-tables'];
  const bootLog = boot.events.map(({ rtmr, type, digest, data }) => ({
    imr: rtmr,
    eventType: type,
    digest,
    event: Buffer.from(data).toString() === 'ACPI DATA' ? (acpiNames.shift() ?? '') : '',
    eventPayload: data,
  }));
  return {
    vmConfig,
    osImageHash: toHex(boot.osImageHash),
    attest: (reportData) => ({
      quote: {
        mode: 'dstack-tdx',
        quote: identity.platform.quote(reportData, td, identity.quote),
        eventLog: bootLog,
      },
      runtimeEvents: events,
      reportData,
      config: identity.config ?? vmConfig,
    }),
  };
}

/** A guest agent inside such a guest. */
export function agentOf(guest: SimulatedGuest): GuestAgent {
  return {
    attest: async (reportData) => encodeAttestation(guest.attest(reportData)),
    vmConfig: async () => guest.vmConfig,
    close: () => undefined,
  };
}
