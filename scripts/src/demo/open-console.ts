import { type Health, reachable, startConsole } from '@dstack-cloud/console';
import { configSchema } from '@dstack-cloud/watcher';
import type { Cleanup } from './cleanup.ts';
import type { Contracts } from './contracts.ts';
import type { DemoReport } from './report.ts';
import type { Chain } from './start-chain.ts';

/** The page that shows the governance of the demo's chain; it only reads. @returns its address */
export async function openConsole(
  chain: Chain,
  { kms }: Contracts,
  report: DemoReport,
  cleanup: Cleanup,
): Promise<string> {
  const running = await startConsole({
    chain: configSchema.parse({
      rpc_urls: [chain.rpcUrl],
      kms_contract: kms,
      chain_id: chain.chainId,
      poll_seconds: 5,
    }),
    health: () => healthOf(report),
    port: 0,
  });
  cleanup.add(() => running.stop());
  return running.url;
}

/** What the demo has started so far. */
async function healthOf({ kms, app, second }: DemoReport): Promise<Health[]> {
  const started: [Health['kind'], string, string | undefined, string][] = [
    ['kms', 'key service', kms?.url, '/health'],
    ['app', 'first application', app?.url, '/'],
    ['app', 'second application', second?.url, '/'],
  ];
  return await Promise.all(
    started.flatMap(([kind, name, url, path]) =>
      url === undefined
        ? []
        : [reachable(`${url}${path}`).then((answer) => ({ kind, name, url, ...answer }))],
    ),
  );
}
