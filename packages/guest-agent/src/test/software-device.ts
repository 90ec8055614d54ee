import { createHash } from 'node:crypto';
import {
  type Attestation,
  decodeAttestation,
  RUNTIME_EVENT_TYPE,
  type RuntimeEvent,
  runtimeEventDigest,
} from '@dstack-cloud/attestation';
import type { EvidenceDevice } from '@dstack-cloud/attestation/attester';
import { fixture } from '@dstack-cloud/test/fixtures';

const MR_CONFIG_ID = 232;
const RTMR3 = 520;
const REPORT_DATA = 568;

/** A TDX device in memory: a recorded quote with this boot's register, MRCONFIGID and report data written in. */
export class SoftwareDevice implements EvidenceDevice {
  readonly mode = 'dstack-tdx';
  readonly emitted: RuntimeEvent[] = [];
  mrConfigId: Uint8Array = new Uint8Array(48);
  /** Number of the event that fails, if one shall. */
  failAt: number | undefined;
  #rtmr3: Uint8Array = new Uint8Array(48);
  readonly #vmConfig: () => string;

  constructor(vmConfig: () => string = () => '{}') {
    this.#vmConfig = vmConfig;
  }

  get names(): string[] {
    return this.emitted.map(({ event }) => event);
  }

  async attest(reportData: Uint8Array): Promise<Attestation> {
    const recorded = decodeAttestation(fixture('simulator/attestation.bin'));
    if (recorded.quote.mode !== 'dstack-tdx') throw new Error('the fixture is TDX');
    const quote = recorded.quote.quote.slice();
    quote.set(this.mrConfigId, MR_CONFIG_ID);
    quote.set(this.#rtmr3, RTMR3);
    quote.set(reportData, REPORT_DATA);
    const runtime = this.emitted.map((event) => ({
      imr: 3,
      eventType: RUNTIME_EVENT_TYPE,
      digest: runtimeEventDigest(event, 'sha384'),
      event: event.event,
      eventPayload: event.payload,
    }));
    const boot = recorded.quote.eventLog.filter(({ imr }) => imr !== 3);
    return {
      quote: { mode: 'dstack-tdx', quote, eventLog: [...boot, ...runtime] },
      runtimeEvents: [...this.emitted],
      reportData,
      config: this.#vmConfig(),
    };
  }

  async emitEvent(event: RuntimeEvent): Promise<void> {
    if (this.emitted.length === this.failAt) throw new Error('the device is gone');
    const hash = createHash('sha384').update(this.#rtmr3).update(runtimeEventDigest(event, 'sha384'));
    this.#rtmr3 = new Uint8Array(hash.digest());
    this.emitted.push(event);
  }

  async events(): Promise<RuntimeEvent[]> {
    return [...this.emitted];
  }
}
