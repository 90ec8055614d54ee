import { durationText } from '@dstack-cloud/governance';
import type { GovernanceModel } from '../model/governance-model.ts';
import type { Allowance } from '../model/model.ts';
import type { Alert } from './alert.ts';

/** When something that stays as it is becomes worth a message. */
export type Thresholds = {
  readonly pendingSeconds: number;
  readonly queueDepth: number;
  readonly expirySeconds: number;
  readonly participation: number;
  readonly participationSeconds: number;
};

const DAY = 86_400;

/** What time alone brings about. Each thing is told once, by its id. */
export function timedAlerts(
  model: GovernanceModel,
  now: number,
  thresholds: Thresholds,
  isListed: (address: string) => boolean,
): Alert[] {
  const time = Math.floor(now);
  return [
    ...[...model.timelocks].flatMap(([contract, timelock]) => {
      const pending = [...timelock.operations.values()].filter(({ state }) => state === 'pending');
      const alerts = pending.flatMap(({ id, scheduled, readyAt }): Alert[] => {
        const ready = time >= readyAt;
        const since = ready ? readyAt : scheduled.time;
        if (time - since < thresholds.pendingSeconds) return [];
        const rule = ready ? 'proposal-unexecuted' : 'proposal-pending';
        const what = ready ? 'has been ready' : 'has waited';
        const text = `Operation ${id} ${what} for ${durationText(BigInt(Math.floor(thresholds.pendingSeconds)))} or more`;
        return [{ id: `${id}/${scheduled.tx}/${rule}`, rule, severity: 'warning', text, time, contract }];
      });
      if (pending.length <= thresholds.queueDepth) return alerts;
      // Told again when it grows beyond what it was.
      const text = `${pending.length} operations are pending in the Timelock`;
      const id = `${contract}/queue-depth/${pending.length}/${Math.floor(time / DAY)}`;
      return [
        ...alerts,
        { id, rule: 'queue-depth', severity: 'warning', text, time, contract } satisfies Alert,
      ];
    }),
    ...expiring(model, time, thresholds.expirySeconds, isListed),
    ...[...model.safes].flatMap(([contract]): Alert[] => {
      const ratio = participation(model, contract, time, thresholds.participationSeconds);
      if (ratio === undefined || ratio >= thresholds.participation) return [];
      const percent = Math.round(ratio * 100);
      const text = `${percent}% of the signers of the Safe took part in the last ${durationText(BigInt(thresholds.participationSeconds))}`;
      const id = `${contract}/participation/${Math.floor(time / thresholds.participationSeconds)}`;
      return [{ id, rule: 'signer-participation', severity: 'warning', text, time, contract }];
    }),
  ];
}

function expiring(
  { kms, apps }: GovernanceModel,
  now: number,
  within: number,
  isListed: (address: string) => boolean,
): Alert[] {
  const soon = (end: number): boolean => end > now && end - now <= within;
  const alert = (what: string, end: number, contract?: string): Alert => ({
    id: `${contract ?? 'kms'}/${what}/${end}/expiring`,
    rule: 'expiring',
    severity: 'warning',
    text: `${what} is allowed until ${new Date(end * 1_000).toISOString()}`,
    time: now,
    ...(contract === undefined ? {} : { contract }),
  });
  const of = (list: ReadonlyMap<string, Allowance>, what: string, contract?: string): Alert[] =>
    [...list].flatMap(([value, { notAfter }]) =>
      soon(notAfter) ? [alert(`${what} ${value}`, notAfter, contract)] : [],
    );
  return [
    ...of(kms.images, 'OS image'),
    ...[...apps].flatMap(([address, app]) =>
      isListed(address)
        ? [
            ...of(app.composeHashes, 'Compose hash', address),
            ...(soon(app.notAfter) ? [alert(`App ${address}`, app.notAfter, address)] : []),
          ]
        : [],
    ),
  ];
}

/** Which part of the signers of a Safe signed, approved or executed something lately; undefined without signers. */
export function participation(
  model: GovernanceModel,
  safe: string,
  now: number,
  seconds: number,
): number | undefined {
  const { owners, lastSeen } = model.safe(safe);
  if (owners.size === 0) return undefined;
  const active = [...owners].filter((owner) => (lastSeen.get(owner) ?? 0) > now - seconds);
  return active.length / owners.size;
}
