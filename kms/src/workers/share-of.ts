import type { KmsConfig } from '../config/kms-config.ts';

/** The configuration of one worker: bounds on what is done at the same time hold for the service: each worker has its part. */
export function shareOf(config: KmsConfig): KmsConfig {
  const part = (whole: number): number => Math.ceil(whole / config.workers);
  const { rpc, core } = config;
  return {
    ...config,
    rpc: {
      ...rpc,
      tls: {
        ...rpc.tls,
        max_connections: part(rpc.tls.max_connections),
        max_connections_per_address: part(rpc.tls.max_connections_per_address),
      },
    },
    core: {
      ...core,
      rate_limit: { ...core.rate_limit, max_verifications: part(core.rate_limit.max_verifications) },
    },
  };
}
