import type { Attestation, AttestationMode, RuntimeEvent } from '../attestation.ts';

/** The guest's own hardware: where its evidence comes from and what its runtime events extend. */
export interface EvidenceDevice {
  readonly mode: AttestationMode;
  /**
   * Fresh evidence over 64 bytes of report data, with the logs that belong to it.
   * @param options.nonce at most 512 bytes; only the document of an enclave has a place for it
   * @throws AttestationError `device`, `event-log`
   */
  attest(reportData: Uint8Array, options?: { readonly nonce?: Uint8Array }): Promise<Attestation>;
  /**
   * Extends the runtime register and appends to the log, under one lock. Once this has failed half way, the device
   * refuses all further events and evidence until the next boot.
   * @throws AttestationError `device`, `event-log`
   */
  emitEvent(event: RuntimeEvent): Promise<void>;
  /** The events of this boot so far, in order. */
  events(): Promise<RuntimeEvent[]>;
  /** Releases sockets and descriptors. */
  close?(): Promise<void>;
}
