import { type Attestation, decodeAttestation, type RuntimeEvent } from '@dstack-cloud/attestation';
import type { EvidenceDevice } from '@dstack-cloud/attestation/attester';
import { concatBytes } from '@dstack-cloud/encoding';
import { GuestError } from '../errors.ts';

/** Where report_data lies in a version 4 TDX quote (docs/protocol/evidence.md section 8). */
const REPORT_DATA_OFFSET = 568;
const REPORT_DATA_LENGTH = 64;

/**
 * Evidence from a recorded attestation instead of a device: report data is written over, so
 * signatures no longer verify, and events go nowhere.
 */
export class FixtureDevice implements EvidenceDevice {
  readonly mode = 'dstack-tdx';
  readonly #attestation: Attestation;
  readonly #patch: boolean;

  /** @throws GuestError `config-invalid` unless the file holds a bare TDX attestation */
  constructor(file: Uint8Array, options: { readonly patchReportData: boolean }) {
    this.#attestation = decodeAttestation(file);
    this.#patch = options.patchReportData;
    if (this.#attestation.quote.mode !== 'dstack-tdx') {
      throw new GuestError('config-invalid', 'Only TDX attestations can be used as a fixture', {
        found: this.#attestation.quote.mode,
      });
    }
  }

  async attest(reportData: Uint8Array): Promise<Attestation> {
    const { quote } = this.#attestation;
    if (!this.#patch || quote.mode !== 'dstack-tdx') return this.#attestation;
    const patched = concatBytes(
      quote.quote.subarray(0, REPORT_DATA_OFFSET),
      reportData,
      quote.quote.subarray(REPORT_DATA_OFFSET + REPORT_DATA_LENGTH),
    );
    return { ...this.#attestation, reportData, quote: { ...quote, quote: patched } };
  }

  async emitEvent(_event: RuntimeEvent): Promise<void> {
    throw new Error('recorded evidence cannot be extended');
  }

  async events(): Promise<RuntimeEvent[]> {
    return [...this.#attestation.runtimeEvents];
  }
}
