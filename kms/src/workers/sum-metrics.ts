import { AggregatorRegistry } from 'prom-client';
import type { MetricJson } from '../telemetry/metrics.ts';

/** The metrics of several processes as one: counters and histograms added, gauges as each says of itself. */
export function sumMetrics(processes: readonly (readonly MetricJson[])[]): Promise<string> {
  return registryOf(processes).metrics();
}

/** What a process that has ended counted, added to that of others: or the sums would go down with it. */
export async function addEnded(
  ended: readonly MetricJson[],
  last: readonly MetricJson[],
): Promise<MetricJson[]> {
  const counts = last.filter(({ type }) => COUNTING.includes(String(type)));
  return registryOf([ended, counts]).getMetricsAsJSON();
}

const COUNTING: readonly string[] = ['counter', 'histogram'];

function registryOf(
  processes: readonly (readonly MetricJson[])[],
): ReturnType<typeof AggregatorRegistry.aggregate> {
  return AggregatorRegistry.aggregate(processes.map((metrics) => [...metrics]));
}
