import { argument } from '../model/apply-contract.ts';
import { actorOf, type Finding, isBeingMade, type Occurrence, together } from './occurrence.ts';

/** Events that change no policy, or that anybody may cause. */
const FREE = new Set(['AppRegistered', 'AppDeployedViaFactory', 'Initialized']);

/**
 * A change of a contract whose owner is a Timelock, in a transaction in which that Timelock executed nothing on it, by
 * nobody who is a guardian: the delay was got round.
 */
export function unscheduled(occurrence: Occurrence): Finding[] {
  const { event, model } = occurrence;
  const { source, address, name, tx } = event;
  if ((source !== 'kms' && source !== 'app') || FREE.has(name)) return [];
  const contract = source === 'kms' ? model.kms : model.apps.get(address);
  if (!contract || !model.timelocks.has(contract.owner)) return [];
  const events = together(occurrence);
  if (isBeingMade(occurrence)) return [];
  // Anybody may register an app.
  if (
    name === 'PolicyChanged' &&
    events.some((one) => one.name === 'AppRegistered' && one.address === address)
  )
    return [];
  const executed = events.some(
    (one) =>
      one.name === 'CallExecuted' && one.address === contract.owner && argument(one, 'target') === address,
  );
  const actor = actorOf(occurrence);
  if (executed || contract.guardians.has(actor)) return [];
  const where = source === 'kms' ? 'DstackKms' : `App ${address}`;
  const text = `${where} was changed in a transaction in which its owner, the Timelock ${contract.owner}, executed nothing`;
  return [{ rule: 'unscheduled-change', severity: 'critical', text, id: `${tx}/${address}` }];
}
