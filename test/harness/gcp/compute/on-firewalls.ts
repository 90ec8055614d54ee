import { invalid } from '../api-error.ts';
import type { ComputeState } from './compute-state.ts';
import type { Json, Request } from './resources.ts';

/** Requests of `firewalls`. */
export function onFirewalls(state: ComputeState, { verb, path, query, given, begin }: Request): object {
  const { firewalls } = state;
  const name = path['firewall'] ?? String(given['name']);
  const change = (body: Json | undefined): object =>
    begin(name, async () => {
      if (body === undefined) firewalls.delete(name);
      else firewalls.set(name, body);
      for (const machine of state.instances.values()) await state.power.network?.(machine);
    });
  if (verb === 'List') return state.list([...firewalls.values()], query);
  if (verb === 'Insert') {
    state.newName(firewalls, name, given);
    return change(state.stamp(given));
  }
  const rule = state.find(firewalls, name);
  if (verb === 'Get') return rule;
  if (verb === 'Patch') return change({ ...rule, ...given });
  if (verb === 'Delete') return change(undefined);
  throw invalid(`The emulator has no Firewalls.${verb}`);
}
