import { PolicyError, type PolicyInfo } from '@dstack-cloud/policy';
import { create, memoizeEncoding, kms as proto } from '@dstack-cloud/prpc';
import { certificatePem } from '@dstack-cloud/ra-tls';
import { withTimeout } from '@dstack-cloud/runtime';
import type { Kms } from '../kms.ts';

/** How long an answer is given again, and how long the last good one outlives a silent auth API. */
const FRESH_MS = 1_000;
const STALE_MS = 60_000;
/** A GetMeta must not wait for an auth API that hangs. */
const DESCRIBE_TIMEOUT_MS = 3_000;

type Source = Pick<Kms, 'config' | 'keys' | 'policy' | 'log' | 'metrics' | 'simulated'>;

/**
 * Describes this KMS (docs/protocol/kms.md section 5.8). It answers also when the policy source does not: then with the
 * last good values for a minute, and with none after that.
 */
export function metaSource(kms: Source): () => proto.GetMetaResponse | Promise<proto.GetMetaResponse> {
  let answer: { at: number; message: proto.GetMetaResponse } | undefined;
  let good: { at: number; info: PolicyInfo } | undefined;
  let refreshing: Promise<proto.GetMetaResponse> | undefined;

  async function refresh(): Promise<proto.GetMetaResponse> {
    try {
      good = { info: await withTimeout(kms.policy.describe(), DESCRIBE_TIMEOUT_MS), at: performance.now() };
    } catch (error) {
      const code = error instanceof PolicyError ? error.code : 'unexpected';
      kms.metrics.policyInfoFailures.inc();
      kms.log.warn({ code }, 'policy source does not describe itself');
    }
    const info = good !== undefined && performance.now() - good.at < STALE_MS ? good.info : undefined;
    const message = memoizeEncoding(metaOf(kms, info));
    answer = { at: performance.now(), message };
    return message;
  }

  return () => {
    if (answer !== undefined && performance.now() - answer.at < FRESH_MS) return answer.message;
    refreshing ??= refresh().finally(() => {
      refreshing = undefined;
    });
    return refreshing;
  };
}

function metaOf({ config, keys, simulated }: Source, info: PolicyInfo | undefined): proto.GetMetaResponse {
  const isDev = config.policy === 'dev';
  const { bootstrapInfo } = keys;
  return create(proto.GetMetaResponseSchema, {
    caCert: certificatePem(keys.rootCa.certificate),
    allowAnyUpgrade: isDev,
    k256Pubkey: keys.k256Pubkey,
    ...(bootstrapInfo === undefined ? {} : { bootstrapInfo }),
    isDev,
    ...(info?.gatewayAppId === undefined ? {} : { gatewayAppId: info.gatewayAppId }),
    ...(info?.kmsContract === undefined ? {} : { kmsContractAddress: info.kmsContract }),
    ...(info?.chainId === undefined ? {} : { chainId: BigInt(info.chainId) }),
    ...(info?.appImplementation === undefined ? {} : { appAuthImplementation: info.appImplementation }),
    rootHistory: keys.history.map(({ rootCa, k256Pubkey }) => ({ caPubkey: rootCa.key.spki, k256Pubkey })),
    ...(simulated ? { simulated: true } : {}),
  });
}
