import { type ConnectionLimits, networkOf } from '@dstack-cloud/prpc';
import type { Kms } from '../kms.ts';

/** Counts and logs, in bounds, what a listener does to connections. */
export function watchedConnections({
  metrics,
  log,
}: Pick<Kms, 'metrics' | 'log'>): Required<Pick<ConnectionLimits, 'onTurnedAway' | 'onCut'>> {
  return {
    onTurnedAway: (reason, address) => {
      metrics.refused.inc({ step: 'connection' });
      log.warn({ source: networkOf(address), reason }, 'connection turned away');
    },
    onCut: (reason, address) => {
      // Node's HTTP server ended these two; the limits on connections ended the others.
      metrics.refused.inc({ step: reason === 'malformed' || reason === 'late' ? 'http' : 'cut' });
      log.warn({ source: networkOf(address), reason }, 'connection cut');
    },
  };
}
