import { durationText } from '@dstack-cloud/governance';
import type { GovernanceModel } from '../model/governance-model.ts';
import type { ServiceProblem } from '../safe-service/safe-service.ts';
import type { WaitingTransaction } from '../safe-service/waiting-transaction.ts';
import type { Alert } from './alert.ts';
import type { AlertContext } from './occurrence.ts';
import { callInWords, proposal } from './proposal.ts';

/** Whose signature of a transaction was told. */
export function signedId(safe: string, hash: string, signer: string): string {
  return `${safe}/${hash}/signed/${signer}`;
}

/** What Safes are about to do, told before it is executed. Each thing is told once, by its id. */
export function waitingAlerts(
  waiting: readonly WaitingTransaction[],
  model: GovernanceModel,
  now: number,
  pendingSeconds: number,
  context: AlertContext,
): Alert[] {
  return waiting.flatMap(({ safe, hash, tx, signers, approvedBy, since }): Alert[] => {
    const time = Math.floor(now);
    const about = { time, contract: safe, transaction: hash };
    const what = `Transaction ${hash} waits in Safe ${safe}`;
    const { threshold } = model.safe(safe);
    const call = { target: tx.to, value: tx.value.toString(), data: tx.data };
    const count = new Set([...signers, ...approvedBy]).size;
    const when = `with nonce ${tx.nonce} and ${count} of ${threshold} signatures`;
    const alerts: Alert[] = proposal(what, when, [callInWords(call, context.known)], context).map(
      (finding) => ({ ...finding, ...about, id: `${safe}/${hash}/${finding.rule}` }),
    );
    if (tx.operation === 1 && context.known.get(tx.to.toLowerCase())?.kind !== 'multi-send') {
      const text = `${what}, and would make a delegatecall to ${tx.to}, which may do anything to the Safe`;
      alerts.push({
        id: `${safe}/${hash}/safe-delegatecall`,
        rule: 'safe-delegatecall',
        severity: 'critical',
        text,
        ...about,
      });
    }
    for (const signer of signers) {
      const text = `${signer} signed transaction ${hash} of Safe ${safe}`;
      alerts.push({
        id: signedId(safe, hash, signer),
        rule: 'proposal-signed',
        severity: 'info',
        text,
        ...about,
        actor: signer,
      });
    }
    const rivals = waiting.filter((other) => other.safe === safe && other.tx.nonce === tx.nonce);
    if (rivals.length > 1) {
      const text = `${rivals.length} transactions of Safe ${safe} have nonce ${tx.nonce}: one of them will be executed, and the others never`;
      alerts.push({
        id: `${safe}/${tx.nonce}/nonce-conflict/${rivals.length}`,
        rule: 'nonce-conflict',
        severity: 'warning',
        text,
        time,
        contract: safe,
      });
    }
    if (time - since >= pendingSeconds) {
      const text = `${what} for ${durationText(BigInt(Math.floor(pendingSeconds)))} or more`;
      alerts.push({
        id: `${safe}/${hash}/proposal-pending`,
        rule: 'proposal-pending',
        severity: 'warning',
        text,
        ...about,
      });
    }
    return alerts;
  });
}

/** A service that lies is told at once, one that is gone when it has been for long. */
export function serviceProblemAlerts(
  problem: ServiceProblem | undefined,
  now: number,
  staleSeconds: number,
): Alert[] {
  if (problem === undefined) return [];
  const { code, message, since } = problem;
  const lies = code === 'service-inconsistent';
  if (!lies && now - since < staleSeconds) return [];
  const rule = lies ? 'safe-service-lies' : 'safe-service-unreadable';
  const severity = lies ? 'critical' : 'warning';
  return [{ id: `${since}/${rule}`, rule, severity, text: message, time: Math.floor(now) }];
}
