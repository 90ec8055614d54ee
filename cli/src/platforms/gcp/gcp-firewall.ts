import { CliError } from '../../errors.ts';
import type { Firewall } from '../platform.ts';
import { removeRules, rulesOf, setRule } from './firewall.ts';
import { openGcp } from './gcp-place.ts';
import { gcpSettings } from './gcp-settings.ts';
import { findInstance } from './own-instance.ts';

/** Firewall rules of the network that act on the instance's tag. */
export const gcpFirewall: Firewall = {
  instance: (place) => gcpSettings(place).instance,
  set: async (place, action, port, sources) => {
    const gcp = await openGcp(place);
    const live = await findInstance(gcp);
    if (live !== undefined) return await setRule(gcp, live, action, port, sources);
    const { instance, zone } = gcp.settings;
    throw new CliError('not_deployed', `Instance ${instance} does not exist in ${zone}`, {
      hint: 'Deploy first; the rules act on the instance',
    });
  },
  remove: async (place, port) => {
    const gcp = await openGcp(place);
    return await removeRules(gcp, gcp.settings.instance, port);
  },
  list: async (place) => {
    const { compute, settings } = await openGcp(place);
    return (await rulesOf(compute, settings.instance)).map((rule) => ({
      name: rule.name,
      action: rule.allowed === undefined ? 'deny' : 'allow',
      ports: (rule.allowed ?? rule.denied ?? []).flatMap(({ IPProtocol = '', ports = [] }) =>
        ports.map((port) => `${IPProtocol}/${port}`),
      ),
      sources: rule.sourceRanges ?? [],
    }));
  },
};
