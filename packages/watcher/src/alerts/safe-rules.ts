import { argument as a } from '../model/apply-contract.ts';
import type { Severity } from './alert.ts';
import type { Finding, Occurrence } from './occurrence.ts';

const one = (rule: string, severity: Severity, text: string): Finding[] => [{ rule, severity, text }];

/** What a Safe tells. */
export function safeRule({ event, context, model }: Occurrence): Finding[] {
  const safe = model.safe(event.address);
  switch (event.name) {
    case 'AddedOwner':
      return one('signers-changed', 'critical', `${a(event, 'owner')} is a signer of the Safe now`);
    case 'RemovedOwner':
      return one('signers-changed', 'critical', `${a(event, 'owner')} is no signer of the Safe any more`);
    case 'ChangedThreshold': {
      const [after, before] = [Number(a(event, 'threshold')), safe.threshold];
      return one(
        'signers-changed',
        after < before ? 'critical' : 'warning',
        `The Safe needs ${after} signatures now, and needed ${before}`,
      );
    }
    case 'EnabledModule':
      return one('safe-module', 'critical', `${a(event, 'module')} acts for the Safe without signatures now`);
    case 'DisabledModule':
      return one(
        'safe-module',
        'warning',
        `${a(event, 'module')} does not act for the Safe without signatures any more`,
      );
    case 'ChangedGuard':
      return one('safe-guard', 'critical', `The guard of the Safe is ${a(event, 'guard')} now`);
    case 'ChangedFallbackHandler':
      return one('safe-guard', 'warning', `The fallback handler of the Safe is ${a(event, 'handler')} now`);
    case 'ApproveHash':
      return one(
        'new-proposal',
        'info',
        `${a(event, 'owner')} approved transaction ${a(event, 'approvedHash')} of the Safe`,
      );
    case 'ExecutionSuccess':
      return one('safe-executed', 'info', `The Safe executed transaction ${a(event, 'txHash')}`);
    case 'ExecutionFailure':
      return one('safe-executed', 'warning', `Transaction ${a(event, 'txHash')} of the Safe failed`);
    case 'ExecutionFromModuleSuccess':
      return one(
        'safe-module',
        'critical',
        `Module ${a(event, 'module')} made the Safe execute something, without signatures`,
      );
    case 'ExecutionFromModuleFailure':
      return one(
        'safe-module',
        'warning',
        `Module ${a(event, 'module')} failed to make the Safe execute something`,
      );
    case 'SignMsg':
      return one('safe-executed', 'warning', `The Safe signed message ${a(event, 'msgHash')}`);
    case 'SafeMultiSigTransaction': {
      const to = a(event, 'to');
      if (a(event, 'operation') !== '1' || context.known.get(to)?.kind === 'multi-send') return [];
      return one(
        'safe-delegatecall',
        'critical',
        `The Safe made a delegatecall to ${to}, which may do anything to it`,
      );
    }
    case 'unknown':
      return one('unknown-event', 'warning', 'The Safe has an event that this program does not know');
    default:
      return [];
  }
}
