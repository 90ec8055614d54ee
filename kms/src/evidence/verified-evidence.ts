import { deserialize, serialize } from 'node:v8';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import {
  AttestationError,
  type AttestationMode,
  bootInfo,
  type VerifiedAttestation,
  type VerifiedBootInfo,
} from '@dstack-cloud/attestation';
import { isZero } from '@dstack-cloud/encoding';
import { RpcError } from '@dstack-cloud/prpc';
import { workloadOf } from './workload-of.ts';

/** Longest configuration of a request, in characters. Those of guests are of some kilobytes. */
const MAX_VM_CONFIG = 128 * 1024;
/** Longer ones are parsed again each time. */
const MAX_KEPT_CONFIG = 16 * 1024;

/** @throws RpcError `INVALID_ARGUMENT`, before anything is done with it */
export function assertConfigSize(vmConfig: string): void {
  if (vmConfig.length <= MAX_VM_CONFIG) return;
  throw new RpcError(`vm_config must be at most ${MAX_VM_CONFIG} characters, found ${vmConfig.length}`, {
    code: 'INVALID_ARGUMENT',
  });
}

/** Evidence that was found genuine, with what follows from it: each is derived once, however often a guest asks. */
export class VerifiedEvidence {
  readonly mode: AttestationMode;
  /** Unix seconds; end of the collateral it was verified with. */
  readonly validUntil: number;
  /** Which workload on which machine this is, for limits. */
  readonly workload: string;
  #verified: VerifiedAttestation | undefined;
  #packed: Uint8Array = new Uint8Array();
  readonly #attested: ConfiguredEvidence;
  /** With the last configuration of a request that was found right: a guest sends the same one again. */
  #requested: ConfiguredEvidence | undefined;

  constructor(verified: VerifiedAttestation) {
    this.mode = verified.mode;
    this.validUntil = verified.validUntil;
    this.workload = workloadOf(verified);
    this.#verified = verified;
    this.#attested = new ConfiguredEvidence(this, '');
  }

  /** The whole of it; of packed evidence a copy, without the list of checks. */
  verified(): VerifiedAttestation {
    return this.#verified ?? (deserialize(inflateRawSync(this.#packed)) as VerifiedAttestation);
  }

  /**
   * Holds it as bytes from now on: as objects, the evidence of a thousand applications would be a hundred thousand of
   * them, which each garbage collection looks at while requests wait (docs/decisions/022-packed-evidence.md). How it
   * was verified, in three dozen steps with their values, is dropped.
   */
  pack(): this {
    if (this.#verified === undefined) return this;
    this.#packed = deflateRawSync(serialize({ ...this.#verified, checks: [] }), { level: 1 });
    this.#verified = undefined;
    return this;
  }

  /**
   * The evidence with the VM configuration that counts: the request's when it has one, else the attested one
   * (docs/protocol/kms.md section 5.3). From here on there is one configuration, so that no two values come from two
   * sources.
   */
  withConfig(vmConfig: string): ConfiguredEvidence {
    if (vmConfig === '') return this.#attested;
    return this.#requested?.vmConfig === vmConfig ? this.#requested : new ConfiguredEvidence(this, vmConfig);
  }

  /** Remembers a configuration that was found right, with what was derived from it. Nothing is kept of what was merely sent. */
  keepConfig(configured: ConfiguredEvidence): void {
    if (configured === this.#attested || configured.vmConfig.length > MAX_KEPT_CONFIG) return;
    this.#requested = configured;
  }
}

/** Evidence with the one configuration that counts. */
export class ConfiguredEvidence {
  readonly #evidence: VerifiedEvidence;
  /** The request's; empty means the attested one. */
  readonly vmConfig: string;
  /** The image was found right: that takes nothing but the evidence and this configuration. */
  isImageChecked = false;
  readonly #info: { boot?: VerifiedBootInfo; now?: VerifiedBootInfo } = {};

  constructor(evidence: VerifiedEvidence, vmConfig: string) {
    this.#evidence = evidence;
    this.vmConfig = vmConfig;
  }

  get mode(): AttestationMode {
    return this.#evidence.mode;
  }

  verified(): VerifiedAttestation {
    const verified = this.#evidence.verified();
    return this.vmConfig === '' ? verified : { ...verified, config: this.vmConfig };
  }

  /**
   * Identities and measurements, complete enough to be decided on.
   * @param bootTime measurements as of boot
   * @throws RpcError with the texts of docs/protocol/kms.md section 5.2
   */
  bootInfo(bootTime: boolean): VerifiedBootInfo {
    const when = bootTime ? 'boot' : 'now';
    this.#info[when] ??= completeBootInfo(this.verified(), bootTime);
    return this.#info[when];
  }
}

function completeBootInfo(verified: VerifiedAttestation, bootTime: boolean): VerifiedBootInfo {
  const info = derive(verified, bootTime);
  if (info.appId.length !== 20) throw refused('app_id must be 20 bytes');
  if (info.instanceId.length !== 0 && info.instanceId.length !== 20) {
    throw refused('instance_id must be empty or 20 bytes');
  }
  // An empty hash would be checked, and downloaded, as if it were one (section 5.3).
  if (info.osImageHash.length !== 32 || isZero(info.osImageHash)) {
    throw refused('os_image_hash is missing: the VM configuration must name the OS image');
  }
  return info;
}

function derive(verified: VerifiedAttestation, bootTime: boolean): VerifiedBootInfo {
  try {
    return bootInfo(verified, { bootTime });
  } catch (error) {
    if (!(error instanceof AttestationError)) throw error;
    // The length of the app id has a text of its own, which is older than the check of the event.
    if (error.code === 'event-log' && error.message.includes('app-id'))
      throw refused('app_id must be 20 bytes');
    const context =
      error.code === 'event-log' ? '' : 'Failed to decode os image hash: Failed to parse vm config: ';
    throw refused(`decode app info: ${context}${error.message}`);
  }
}

function refused(message: string): RpcError {
  return new RpcError(message, { code: 'INVALID_ARGUMENT' });
}
