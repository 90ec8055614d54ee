import type { CallRecord } from '@dstack-cloud/prpc';
import { errorChain } from '../errors.ts';
import type { Kms } from '../kms.ts';

/** Methods counted by the original's two counters. */
const ATTESTED_METHODS = ['GetAppKey', 'GetKmsKey', 'SignCert'];

/** One log line and the metrics of each call; unknown method names share one label, so callers make no new ones. */
export function callLogger({ metrics, log }: Pick<Kms, 'metrics' | 'log'>): (call: CallRecord) => void {
  let id = 0;
  return ({ method, known, status, durationMs, error }) => {
    id += 1;
    const label = known ? method : 'unknown';
    const failed = status >= 400;
    metrics.rpcRequests.inc({ method: label, result: failed ? 'error' : 'ok' });
    metrics.rpcDuration.observe({ method: label }, durationMs / 1000);
    if (ATTESTED_METHODS.includes(method)) {
      metrics.attestationRequests.inc();
      if (failed) metrics.attestationFailures.inc();
    }
    const fields = { id, method: method.slice(0, 64), status, ms: Math.round(durationMs * 10) / 10 };
    if (failed) log.error({ ...fields, error: errorChain(error) }, 'rpc failed');
    else log.info(fields, 'rpc');
  };
}
