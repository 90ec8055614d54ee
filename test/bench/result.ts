/** One figure of a benchmark. `peer` is the reference measured in the same run, in the same unit. */
export type Result = {
  suite: string;
  name: string;
  value: number;
  unit: 's' | 'ms' | '1/s' | 'MB' | 'MB/s' | 'KB' | 'calls';
  /** How many operations the figure comes from. */
  n: number;
  peer?: { name: string; value: number };
  /** What the figure, or with `ratio` its ratio to that of the peer, should be. */
  goal?: Goal;
};

export type Goal = { readonly ratio?: number; readonly atMost?: number; readonly atLeast?: number };

/** Whether a figure is what it should be; undefined when there is no goal. */
export function isMet({ value, peer, goal }: Result): boolean | undefined {
  if (goal?.atMost !== undefined) return value <= goal.atMost;
  if (goal?.atLeast !== undefined) return value >= goal.atLeast;
  if (goal?.ratio !== undefined) return peer !== undefined && value >= goal.ratio * peer.value;
  return undefined;
}

/** Median of the figures of several rounds. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const high = sorted[middle];
  const low = sorted[middle - 1];
  if (high === undefined) throw new Error('median of nothing');
  return sorted.length % 2 === 1 || low === undefined ? high : (low + high) / 2;
}

/** The value below which `fraction` of the figures lie. */
export function percentile(values: readonly number[], fraction: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const value = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))];
  if (value === undefined) throw new Error('percentile of nothing');
  return value;
}
