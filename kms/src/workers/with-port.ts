import { createServer } from 'node:http';
import type { KmsConfig } from '../config/kms-config.ts';
import { listen } from '../server/listen.ts';

/**
 * The configuration with a port that can be listened on: the configured one, or a free one where that is 0, which all
 * workers then share. A port that is taken is seen here, before any worker begins.
 * @throws KmsError `listen-failed`
 */
export async function withPort(config: KmsConfig): Promise<KmsConfig> {
  const { address } = config.rpc;
  const probe = await listen(createServer(), address, config.rpc.port);
  await probe.close(0);
  return { ...config, rpc: { ...config.rpc, port: probe.port } };
}
