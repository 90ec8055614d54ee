import { allowListPolicy, chainPolicy, devPolicy, type Policy, webhookPolicy } from '@dstack-cloud/policy';
import { withTimeout } from '@dstack-cloud/runtime';
import type { ConfiguredFiles } from '../config/configured-files.ts';
import type { KmsConfig } from '../config/kms-config.ts';
import { exposeChainStatus } from '../telemetry/chain-metrics.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { VERSION } from '../version.ts';

/** The auth API beside the KMS, as the documented deployment names it. */
const DEFAULT_WEBHOOK = 'http://auth-api:8000';
/** Scrapers give up after ten seconds. */
const SCRAPE_TIMEOUT_MS = 3_000;

/** The configured policy source. @throws PolicyError for bad configuration */
export function makePolicy(
  { core, policy }: KmsConfig,
  { webhookCa }: ConfiguredFiles,
  { log, metrics }: { log: Log; metrics: Metrics },
): Policy {
  const { webhook, chain, allow_list: allowList, dev } = core.auth_api;
  const onWarning = (message: string): void => log.warn({ message }, 'policy source warning');
  switch (policy) {
    case 'dev':
      return devPolicy({
        dangerouslyAllowEverything: dev.dangerously_allow_everything,
        gatewayAppId: dev.gateway_app_id,
      });
    case 'allow-list':
      return allowListPolicy(allowList.file ?? '', { onWarning });
    case 'webhook':
      return webhookPolicy({
        url: webhook.url ?? DEFAULT_WEBHOOK,
        version: VERSION,
        timeoutMs: webhook.timeout * 1000,
        ...(webhookCa === undefined ? {} : { ca: webhookCa }),
      });
    case 'chain': {
      const source = chainPolicy({
        rpcUrls: chain.rpc_urls,
        kmsContract: chain.kms_contract ?? '',
        maxBlockAgeSeconds: chain.max_block_age,
        finality: chain.finality,
        headReuseMs: chain.head_reuse_ms,
        reads: chain.read === 'proof' ? 'proofs' : 'calls',
        knownCode: chain.known_code,
        ...(chain.light_client_url === undefined ? {} : { lightClientUrl: chain.light_client_url }),
        ...(chain.chain_id === undefined ? {} : { chainId: chain.chain_id }),
        ...(chain.require_timelock === undefined ? {} : { requireTimelockSeconds: chain.require_timelock }),
        ...(chain.quorum === undefined ? {} : { quorum: chain.quorum }),
        onEvent: (event) => {
          if (event.type === 'block') {
            metrics.onchainSyncLag.set(event.lagSeconds);
            log.info({ block: String(event.number), lag: event.lagSeconds }, 'on-chain sync completed');
          } else if (event.type === 'undecided') {
            const { failure, message, times } = event;
            log.error({ failure, reason: message, times }, 'chain could not be read: refused, not denied');
          } else if (event.type === 'endpoint-lacks') {
            log.info(
              { endpoint: event.endpoint, what: event.what },
              'chain endpoint lacks a feature; falling back',
            );
          } else {
            const { endpoint, message, times } = event;
            log.warn({ endpoint, reason: message, times }, 'chain endpoint failed');
          }
        },
      });
      // Without new blocks there are no events, and without requests nobody reads the chain: each scrape looks itself.
      metrics.beforeScrape.push(async () => {
        await withTimeout(source.describe(), SCRAPE_TIMEOUT_MS).catch(() => undefined);
        const { lagSeconds } = source.status();
        if (lagSeconds !== undefined) metrics.onchainSyncLag.set(lagSeconds);
      });
      exposeChainStatus(metrics.registry, () => source.status());
      return source;
    }
  }
}
