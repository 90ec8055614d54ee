import {
  AttestationError,
  type BootInfo,
  bootInfo,
  type VerifiedAttestation,
} from '@dstack-cloud/attestation';
import { isZero } from '@dstack-cloud/encoding';
import { RpcError } from '@dstack-cloud/prpc';

/** What follows from evidence alone is derived once for each; evidence is verified again after ten minutes. */
const derived = {
  boot: new WeakMap<VerifiedAttestation, BootInfo>(),
  now: new WeakMap<VerifiedAttestation, BootInfo>(),
};

/**
 * Identities and measurements of verified evidence, complete enough to be decided on.
 * @throws RpcError with the texts of docs/protocol/kms.md section 5.2
 */
export function bootInfoOf(verified: VerifiedAttestation, bootTime: boolean): BootInfo {
  const known = bootTime ? derived.boot : derived.now;
  const info = known.get(verified) ?? checked(verified, bootTime);
  known.set(verified, info);
  return info;
}

function checked(verified: VerifiedAttestation, bootTime: boolean): BootInfo {
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

function derive(verified: VerifiedAttestation, bootTime: boolean): BootInfo {
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
