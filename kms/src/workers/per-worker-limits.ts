import type { KmsConfig } from '../config/kms-config.ts';

/** The configuration of one worker: bounds on what is done at the same time hold for the service: each worker has its part. */
export function perWorkerLimits(config: KmsConfig): KmsConfig {
  const part = (whole: number): number => Math.ceil(whole / config.workers);
  const { rpc, core } = config;
  const { rate_limit: limit } = core;
  return {
    ...config,
    rpc: {
      ...rpc,
      tls: {
        ...rpc.tls,
        max_connections: part(rpc.tls.max_connections),
        max_connections_per_address: part(rpc.tls.max_connections_per_address),
        max_handshakes: part(rpc.tls.max_handshakes),
        max_handshakes_per_address: part(rpc.tls.max_handshakes_per_address),
      },
    },
    core: {
      ...core,
      rate_limit: {
        ...limit,
        max_verifications: part(limit.max_verifications),
        network_cost_per_minute: part(limit.network_cost_per_minute),
        network_cost_burst: part(limit.network_cost_burst),
      },
    },
  };
}
