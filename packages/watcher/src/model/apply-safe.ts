import { zeroAddress } from 'viem';
import type { GovernanceEvent } from '../events/governance-event.ts';
import { argument } from './apply-contract.ts';
import type { SafeModel } from './model.ts';

/** Approved transactions that are remembered. */
const MAX_APPROVALS = 256;

export function applySafe(safe: SafeModel, event: GovernanceEvent): void {
  const { name, time, args } = event;
  const arg = (of: string): string => argument(event, of);
  switch (name) {
    case 'SafeSetup':
      for (const owner of list(args['owners'])) safe.owners.add(owner);
      safe.threshold = Number(arg('threshold'));
      return;
    case 'AddedOwner':
      safe.owners.add(arg('owner'));
      return;
    case 'RemovedOwner':
      safe.owners.delete(arg('owner'));
      return;
    case 'ChangedThreshold':
      safe.threshold = Number(arg('threshold'));
      return;
    case 'EnabledModule':
      safe.modules.add(arg('module'));
      return;
    case 'DisabledModule':
      safe.modules.delete(arg('module'));
      return;
    case 'ChangedGuard':
      safe.guard = arg('guard') || zeroAddress;
      return;
    case 'ApproveHash': {
      const hash = arg('approvedHash');
      const approval = safe.approvals.get(hash) ?? { time, owners: new Set<string>() };
      approval.owners.add(arg('owner'));
      safe.approvals.set(hash, approval);
      if (safe.approvals.size > MAX_APPROVALS) safe.approvals.delete(safe.approvals.keys().next().value!);
      safe.lastSeen.set(arg('owner'), time);
      return;
    }
    case 'ExecutionSuccess':
    case 'ExecutionFailure':
      safe.executed += 1;
      safe.approvals.delete(arg('txHash'));
      for (const signer of list(args['signers'])) safe.lastSeen.set(signer, time);
      if (safe.owners.has(event.sender)) safe.lastSeen.set(event.sender, time);
  }
}

function list(value: unknown): readonly string[] {
  return Array.isArray(value) ? (value as string[]) : [];
}
