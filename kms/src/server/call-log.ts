import { type CallRecord, networkOf, PrpcError, RpcError } from '@dstack-cloud/prpc';
import { errorChain } from '@dstack-cloud/runtime';
import type { Kms } from '../kms.ts';
import type { RefusedStep } from '../telemetry/metrics.ts';

/** Methods counted by the original's two counters. */
const ATTESTED_METHODS = ['GetAppKey', 'GetKmsKey', 'SignCert'];
const MAX_ERROR = 512;

/** One log line and the metrics of each call; unknown method names share one label, so callers make no new ones. */
export function callLogger({ metrics, log }: Pick<Kms, 'metrics' | 'log'>): (call: CallRecord) => void {
  let id = 0;
  return ({ method, known, status, durationMs, error, request }) => {
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
    if (!failed) return log.info(fields, 'rpc');
    metrics.refused.inc({ step: stepOf(error, known) });
    log.error({ ...fields, ...callFailure(request, error) }, 'rpc failed');
  };
}

/** What a line says about a call that failed: the fields by which such lines are told apart and bounded. */
export function callFailure(
  { socket }: CallRecord['request'],
  error: unknown,
): { source: string; error: string } {
  return { source: networkOf(socket.remoteAddress ?? ''), error: errorChain(error).slice(0, MAX_ERROR) };
}

/** The step at which a call was refused. */
export function stepOf(error: unknown, known: boolean): RefusedStep {
  if (!known) return 'method';
  if (error instanceof PrpcError) return error.code === 'too_large' ? 'body' : 'decode';
  const code = error instanceof RpcError ? error.code : undefined;
  if (code === 'RATE_LIMITED') return 'rate';
  if (code === 'UNAUTHORIZED') return 'evidence';
  if (code === 'MEASUREMENT_NOT_FOUND') return 'policy';
  return code === 'INVALID_ARGUMENT' ? 'request' : 'service';
}
