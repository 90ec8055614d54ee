import { create, kms as proto, RpcError, withJsonExtras } from '@dstack-cloud/prpc';
import { errorChain, withTimeout } from '@dstack-cloud/runtime';
import type { OnboardingContext } from './onboarding-context.ts';

const DESCRIBE_TIMEOUT_MS = 5_000;

/** What an operator registers on chain before bootstrap (docs/protocol/kms.md section 6.1). @throws RpcError */
export async function attestationInfo(onboarding: OnboardingContext): Promise<proto.AttestationInfoResponse> {
  const { config, self, policy, log } = onboarding;
  const { info, rawDeviceId } = await self.identity().catch((error: unknown) => {
    log.error({ reason: errorChain(error) }, 'self attestation failed');
    const text = error instanceof Error ? error.message : 'unknown';
    throw new RpcError(`Failed to get attestation info: ${text}`, { code: 'UNAVAILABLE', cause: error });
  });
  const source = await withTimeout(policy.describe(), DESCRIBE_TIMEOUT_MS).catch(() => undefined);
  const response = create(proto.AttestationInfoResponseSchema, {
    deviceId: info.deviceId,
    mrAggregated: info.mrAggregated,
    osImageHash: info.osImageHash,
    attestationMode: info.mode,
    siteName: config.core.site_name,
    ethRpcUrl: source?.ethRpcUrl ?? '',
    kmsContractAddress: source?.kmsContract ?? '',
    ppid: rawDeviceId,
  });
  // Field 4 has two names, by generation (section 2.4).
  const simulated = onboarding.simulated ? { simulated: true } : {};
  return withJsonExtras(response, { members: { tee_variant: info.mode, ...simulated } });
}
