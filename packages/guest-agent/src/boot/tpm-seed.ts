import { AttestationError, EVENT, runtimeEventDigest } from '@dstack-cloud/attestation';
import {
  type EvidenceDevice,
  extendPcr,
  openSealedSeed,
  parseSealApproval,
  readPcrs,
  requireMeasuredImage,
  type Tpm,
  withTpm,
} from '@dstack-cloud/attestation/attester';
import { isZero, toHex } from '@dstack-cloud/encoding';
import { isThere } from '@dstack-cloud/files';
import type { GuestConfig } from '../config/guest-config.ts';
import { GuestError } from '../errors.ts';
import type { Logger } from '../log.ts';

/** Runtime events go here, so that a seal is bound to the application as well as to the image. */
const RUNTIME_PCR = 14;

export interface TpmSeedInput {
  readonly config: Pick<GuestConfig, 'tpm'>;
  /** All events up to `boot-mr-done` are measured. */
  readonly device: EvidenceDevice;
  /** SPKI DER of app-compose.json's `seal_approval_key`; empty for none. */
  readonly approver: Uint8Array;
  /** Text of `.seal-approval.json`, from the host. */
  readonly approval: Uint8Array | undefined;
  readonly log: Logger;
}

/**
 * The seed that the TPM of this machine keeps for this measured system. Whoever runs the TPM could know it: on GCP that is
 * Google, for a virtual TPM of the host's own it is the host.
 *
 * @throws GuestError `key-provider-unsupported` without a TPM, `seal-refused`, `key-provider-failed`
 */
export async function seedFromTpm({
  config,
  device,
  approver,
  approval,
  log,
}: TpmSeedInput): Promise<Uint8Array> {
  const { devices, eventLog } = config.tpm;
  const location = devices.find((one) => one.startsWith('unix:') || isThere(one));
  if (location === undefined) {
    throw new GuestError(
      'key-provider-unsupported',
      'Key provider tpm needs a TPM, and this machine has none: attach one, or use kms or none',
      { expected: devices.join(' or '), found: 'none' },
    );
  }
  if (device.mode !== 'dstack-gcp-tdx')
    log.warn('Key provider tpm: the TPM of this machine is its host’s, so the host can know the keys');
  try {
    const events = await device.events();
    const options = { approver, ...(approval && { approval: parseSealApproval(approval) }) };
    return await withTpm(location, async (tpm) => {
      await requireMeasuredImage(tpm, eventLog);
      // Where the device does not do so itself: what RTMR3 has, and nothing before it.
      const ours = device.mode !== 'dstack-gcp-tdx';
      if (ours) {
        await requireUnused(tpm);
        for (const event of events)
          await extendPcr(tpm, RUNTIME_PCR, { sha256: runtimeEventDigest(event, 'sha256') });
      }
      const { seed, how, number } = await openSealedSeed(tpm, options);
      // Closes the seal until the next boot.
      const closing = { event: EVENT.keyProvider, payload: new Uint8Array(0) };
      if (ours) await extendPcr(tpm, RUNTIME_PCR, { sha256: runtimeEventDigest(closing, 'sha256') });
      log.info({ how, seal: number }, 'The TPM gave the seed of this machine');
      return seed;
    });
  } catch (cause) {
    if (cause instanceof GuestError) throw cause;
    const refused = cause instanceof AttestationError && cause.code === 'mismatch';
    const { expected, found } =
      cause instanceof AttestationError ? cause : { expected: undefined, found: undefined };
    throw new GuestError(
      refused ? 'seal-refused' : 'key-provider-failed',
      refused ? 'This system may not have what the TPM sealed' : 'The TPM gave no seed',
      { cause, ...(expected && { expected }), ...(found && { found }) },
    );
  }
}

async function requireUnused(tpm: Tpm): Promise<void> {
  const [register] = await readPcrs(tpm, 'sha256', [RUNTIME_PCR]);
  if (register && isZero(register.value)) return;
  throw new GuestError('already-measured', `PCR ${RUNTIME_PCR} of the TPM is already extended`, {
    expected: '00'.repeat(32),
    found: register ? toHex(register.value) : 'not there',
  });
}
