/** In order of severity (docs/protocol/verification.md section 2.3). */
export const TCB_STATUSES = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'Revoked',
] as const;

export type TcbStatus = (typeof TCB_STATUSES)[number];

/** The worst of several statuses. */
export function worstStatus(first: TcbStatus, ...others: readonly TcbStatus[]): TcbStatus {
  return others.reduce(
    (worst, status) => (TCB_STATUSES.indexOf(status) > TCB_STATUSES.indexOf(worst) ? status : worst),
    first,
  );
}

/** Lists joined in order, each id once. */
export function mergeAdvisories(...lists: readonly (readonly string[])[]): string[] {
  return [...new Set(lists.flat())];
}
