import { decodeAttestation, type VerifiedBootInfo, verifyAttestation } from '@dstack-cloud/attestation';
import type { Decision } from '@dstack-cloud/policy';
import { RpcError } from '@dstack-cloud/prpc';
import { errorChain } from '@dstack-cloud/runtime';
import type { GuestAgent } from '../agent/guest-agent.ts';
import type { KmsConfig } from '../config/kms-config.ts';
import { platformOptions } from '../evidence/platform-options.ts';
import type { Trust } from '../evidence/trust.ts';
import { VerifiedEvidence } from '../evidence/verified-evidence.ts';
import { type Asking, askPolicy } from '../policy/ask-policy.ts';
import { cachedCheck } from './cached-check.ts';

/** For readiness, which unauthenticated callers poll every few seconds (docs/protocol/kms.md section 4.1). */
const VERIFIES_FOR = { goodMs: 60_000, badMs: 5_000 };

/** What the KMS knows of itself, and whether it may work. */
export type SelfAuthorization = {
  /** Own identities, from own verified evidence; kept for the life of the process. */
  identity(): Promise<SelfIdentity>;
  /** Own evidence can be obtained and verifies now, or did so within the last minute. @throws what is wrong with it */
  assertVerifies(): Promise<void>;
  /** Own identity, if it is known already. */
  cachedIdentity(): VerifiedBootInfo | undefined;
  /** Asks the policy source, each time. Nothing when `enforce_self_authorization` is off. @throws RpcError */
  assertAllowed(): Promise<void>;
  /** The decision about this KMS, for Bootstrap. @throws RpcError when there is none */
  decide(): Promise<Decision>;
};

type SelfIdentity = { readonly info: VerifiedBootInfo; readonly rawDeviceId: Uint8Array };

type Dependencies = Asking & {
  readonly config: KmsConfig;
  /** Unix seconds. */
  readonly now: () => number;
  readonly agent: GuestAgent;
  readonly trust: Trust;
};

/** Self check of docs/protocol/kms.md section 5.1: evidence over 64 zero bytes, the attested configuration. */
export function selfAuthorization(dependencies: Dependencies): SelfAuthorization {
  const { config, agent, trust, now } = dependencies;
  let known: Promise<SelfIdentity> | undefined;
  let info: VerifiedBootInfo | undefined;

  const identity = (): Promise<SelfIdentity> => {
    known ??= attestSelf().then(
      (found) => {
        info = found.info;
        return found;
      },
      (error: unknown) => {
        known = undefined;
        throw error;
      },
    );
    return known;
  };

  async function attestSelf(): Promise<SelfIdentity> {
    const reportData = new Uint8Array(64);
    const attestation = decodeAttestation(await agent.attest(reportData));
    const verified = await verifyAttestation(attestation, {
      roots: trust.roots,
      collateral: trust.collateral,
      now: now(),
      expectedReportData: reportData,
      platform: platformOptions(config),
    });
    const vmConfig = verified.config.trim() === '' ? await agent.vmConfig() : '';
    const info = new VerifiedEvidence(verified).withConfig(vmConfig).bootInfo(false);
    return { info, rawDeviceId: verified.rawDeviceId };
  }

  const decide = async (): Promise<Decision> => askPolicy(dependencies, 'kms', (await ownIdentity()).info);

  async function ownIdentity(): Promise<SelfIdentity> {
    try {
      return await identity();
    } catch (error) {
      dependencies.log.error({ reason: errorChain(error) }, 'self attestation failed');
      throw new RpcError('Failed to get self attestation', { code: 'UNAVAILABLE', cause: error });
    }
  }

  return {
    identity,
    assertVerifies: cachedCheck(attestSelf, VERIFIES_FOR),
    cachedIdentity: () => info,
    decide,
    async assertAllowed() {
      if (!config.core.enforce_self_authorization) return;
      const decision = await decide().catch((error: unknown) => {
        if (!(error instanceof RpcError)) throw error;
        const context = error.message.startsWith('Failed to') ? '' : 'Failed to call self KMS auth check: ';
        throw new RpcError(`KMS self authorization failed: ${context}${error.message}`, {
          code: 'UNAVAILABLE',
          cause: error,
        });
      });
      if (decision.allowed) return;
      throw new RpcError(`KMS self authorization failed: KMS is not allowed: ${decision.reason}`, {
        code: decision.failure === undefined ? 'UNAUTHORIZED' : 'UNAVAILABLE',
      });
    },
  };
}
