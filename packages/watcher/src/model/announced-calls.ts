import type { GovernanceModel } from './governance-model.ts';
import type { Announcement, Ruled } from './model.ts';

/** Seconds after the delay in which the contracts take an announced call. */
const USE_WITHIN = 14 * 86_400;

/** A call that is announced and was neither made nor taken back. */
export type AnnouncedCall = Announcement & {
  readonly contract: string;
  readonly delay: number;
  /** Unix seconds: from here to there it can be made. */
  readonly readyAt: number;
  readonly lapsesAt: number;
};

/** Announced calls of the KMS contract and of the apps that somebody listed; those that have lapsed are left out. */
export function announcedCalls(
  model: GovernanceModel,
  kms: string,
  now: number,
  isListed: (address: string) => boolean,
): AnnouncedCall[] {
  const contracts: [string, Ruled][] = [
    [kms, model.kms],
    ...[...model.apps].filter(([app]) => isListed(app)),
  ];
  return contracts.flatMap(([contract, { announced, policyDelay: delay }]) =>
    [...announced.values()].flatMap((one): AnnouncedCall[] => {
      const readyAt = one.time + delay;
      const lapsesAt = readyAt + USE_WITHIN;
      return now > lapsesAt ? [] : [{ ...one, contract, delay, readyAt, lapsesAt }];
    }),
  );
}
