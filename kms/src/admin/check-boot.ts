import { AttestationError, decodeAttestation, verifyAttestation } from '@dstack-cloud/attestation';
import { type MessageInitShape, type kms as proto, RpcError } from '@dstack-cloud/prpc';
import { checkImage } from '../authorize/check-image.ts';
import { platformOptions } from '../evidence/platform-options.ts';
import type { Trust } from '../evidence/trust.ts';
import { assertConfigSize, VerifiedEvidence } from '../evidence/verified-evidence.ts';
import type { Kms } from '../kms.ts';
import { askPolicy } from '../policy/ask-policy.ts';

/**
 * A dry run: what some evidence says, and whether it would get keys. Nothing is released (docs/protocol/kms.md section
 * 7).
 */
export async function checkBoot(
  kms: Kms,
  { roots, collateral }: Trust,
  { attestation, vmConfig, isKms }: proto.CheckBootRequest,
): Promise<MessageInitShape<typeof proto.CheckBootResponseSchema>> {
  assertConfigSize(vmConfig);
  const configured = new VerifiedEvidence(await verify()).withConfig(vmConfig);
  const info = configured.bootInfo(false);
  let decision = { allowed: false, reason: '' };
  try {
    await checkImage(configured, kms);
    decision = await askPolicy(kms, isKms ? 'kms' : 'app', info);
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    decision = { allowed: false, reason: error.message };
  }
  return {
    isAllowed: decision.allowed,
    reason: decision.reason,
    attestationMode: info.mode,
    appId: info.appId,
    instanceId: info.instanceId,
    composeHash: info.composeHash,
    deviceId: info.deviceId,
    mrAggregated: info.mrAggregated,
    mrSystem: info.mrSystem,
    osImageHash: info.osImageHash,
    tcbStatus: info.tcbStatus,
    advisoryIds: [...info.advisoryIds],
    simulated: info.simulated,
  };

  async function verify(): ReturnType<typeof verifyAttestation> {
    try {
      const platform = platformOptions(kms.config);
      return await verifyAttestation(decodeAttestation(attestation), {
        roots,
        collateral,
        platform,
        now: kms.now(),
      });
    } catch (error) {
      if (!(error instanceof AttestationError)) throw error;
      throw new RpcError(`invalid quote: ${error.message}`, { code: 'UNAUTHORIZED', cause: error });
    }
  }
}
