import { deserialize, serialize } from 'node:v8';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { Attestation, AttestationMode, VerifiedAttestation } from '@dstack-cloud/attestation';

const NO_CHECKS: VerifiedAttestation['checks'] = [];

/**
 * Evidence that was found good and may be asked for again in the next minutes. It is kept as bytes: as objects, those of
 * a thousand applications would be a hundred thousand, which each garbage collection looks at while requests wait. What
 * a request asks of it is at hand; what only its first one needs is read back each time.
 *
 * How it was verified, in three dozen steps with their values, is of no use any more and is not kept.
 */
export function compactVerification(verified: VerifiedAttestation): VerifiedAttestation {
  const { quote, runtimeEvents, reportData, config, reportDataPayload } = verified.attestation;
  // Named one by one: evidence that was kept once and is verified again has them from its class.
  const attestation: Attestation = {
    quote,
    runtimeEvents,
    reportData,
    config,
    ...(reportDataPayload === undefined ? {} : { reportDataPayload }),
  };
  const kept = deflateRawSync(serialize({ ...verified, attestation, checks: NO_CHECKS }), { level: 1 });
  latest = { kept, verified };
  return new CompactVerification(verified, kept);
}

// What is kept is a property without `#`, so that an object that inherits from one of these can override a value.

class CompactVerification implements VerifiedAttestation {
  readonly mode: AttestationMode;
  readonly simulated: boolean;
  readonly tcbStatus: string;
  readonly advisoryIds: readonly string[];
  readonly validFrom: number;
  readonly validUntil: number;
  readonly config: string;
  declare readonly snp?: NonNullable<VerifiedAttestation['snp']>;
  readonly attestation: Attestation;
  readonly checks: VerifiedAttestation['checks'] = NO_CHECKS;
  readonly kept: Uint8Array;

  constructor(verified: VerifiedAttestation, kept: Uint8Array) {
    this.mode = verified.mode;
    this.simulated = verified.simulated;
    this.tcbStatus = verified.tcbStatus;
    this.advisoryIds = verified.advisoryIds;
    this.validFrom = verified.validFrom;
    this.validUntil = verified.validUntil;
    this.config = verified.config;
    if (verified.snp !== undefined) this.snp = verified.snp;
    this.attestation = new KeptAttestation(verified.attestation, kept);
    this.kept = kept;
  }

  get reportData(): Uint8Array {
    return readBack(this.kept).reportData;
  }
  get rawDeviceId(): Uint8Array {
    return readBack(this.kept).rawDeviceId;
  }
  get registers(): VerifiedAttestation['registers'] {
    return readBack(this.kept).registers;
  }
  get evidence(): VerifiedAttestation['evidence'] {
    return readBack(this.kept).evidence;
  }
  get runtimeEvents(): VerifiedAttestation['runtimeEvents'] {
    return readBack(this.kept).runtimeEvents;
  }
}

class KeptAttestation implements Attestation {
  declare readonly reportDataPayload?: string;
  readonly kept: Uint8Array;

  constructor({ reportDataPayload }: Attestation, kept: Uint8Array) {
    if (reportDataPayload !== undefined) this.reportDataPayload = reportDataPayload;
    this.kept = kept;
  }

  get quote(): Attestation['quote'] {
    return readBack(this.kept).attestation.quote;
  }
  get runtimeEvents(): Attestation['runtimeEvents'] {
    return readBack(this.kept).attestation.runtimeEvents;
  }
  get reportData(): Uint8Array {
    return readBack(this.kept).attestation.reportData;
  }
  get config(): string {
    return readBack(this.kept).attestation.config;
  }
}

/** What was asked for last, since several values are asked for in a row. */
let latest: { readonly kept: Uint8Array; readonly verified: VerifiedAttestation } | undefined;

function readBack(kept: Uint8Array): VerifiedAttestation {
  // This process wrote it.
  if (latest?.kept !== kept) {
    latest = { kept, verified: deserialize(inflateRawSync(kept)) as VerifiedAttestation };
  }
  return latest.verified;
}
