import { CliError } from '../../errors.ts';
import type { Port } from '../cloud/port.ts';
import type { FirewallAction } from '../platform.ts';
import type { ComputeApi, GcpFirewall, GcpInstance } from './api/compute-api.ts';
import { explainGcp } from './api/gcp-error.ts';
import type { GcpPlace } from './gcp-place.ts';
import { firewallTag, isOwn } from './resources.ts';

/** Makes the rule, or gives one that is there these sources. What was done. */
export async function setRule(
  gcp: GcpPlace,
  live: GcpInstance,
  action: FirewallAction,
  { protocol, number }: Port,
  sources: readonly string[],
): Promise<'made' | 'changed' | 'unchanged'> {
  const { settings, compute } = gcp;
  const { instance } = settings;
  const name = ruleName(instance, action, { protocol, number });
  const sourceRanges = sources.length === 0 ? ['0.0.0.0/0'] : [...new Set(sources)].sort();
  await ensureTag(gcp, live);
  const known = await compute.find<GcpFirewall>('global', 'firewalls', name);
  if (known !== undefined) {
    requireOurs(instance, known);
    if ([...(known.sourceRanges ?? [])].sort().join() === sourceRanges.join()) return 'unchanged';
    await compute.run('PATCH', ['global', 'firewalls', name], { sourceRanges });
    return 'changed';
  }
  const ports = [{ IPProtocol: protocol, ports: [String(number)] }];
  const verb = action === 'allow' ? 'Allow' : 'Deny';
  try {
    await compute.run('POST', ['global', 'firewalls'], {
      name,
      network: live.networkInterfaces?.[0]?.network ?? `projects/${settings.project}/global/networks/default`,
      direction: 'INGRESS',
      // Smaller counts first: a denial over every permission.
      priority: action === 'allow' ? 1000 : 900,
      [action === 'allow' ? 'allowed' : 'denied']: ports,
      sourceRanges,
      targetTags: [firewallTag(instance)],
      description: `${verb} ${protocol.toUpperCase()} port ${number} for ${instance}`,
    });
  } catch (error) {
    throw explainGcp(`Firewall rule ${name}`, error);
  }
  return 'made';
}

/** Removes what allows and what denies the port; how many rules that were. */
export async function removeRules(
  { compute }: Pick<GcpPlace, 'compute'>,
  instance: string,
  port: Port,
): Promise<number> {
  let count = 0;
  for (const action of ['allow', 'deny'] as const) {
    const name = ruleName(instance, action, port);
    const known = await compute.find<GcpFirewall>('global', 'firewalls', name);
    if (known === undefined) continue;
    requireOurs(instance, known);
    if (await compute.remove('global', 'firewalls', name)) count += 1;
  }
  return count;
}

/** Rules of an instance, by their names and the tag that they act on. */
export async function rulesOf<T extends GcpFirewall>(compute: ComputeApi, instance: string): Promise<T[]> {
  const named = await compute.list<T>(`name eq "${instance}-(allow|deny)-.*"`, 'global', 'firewalls');
  return named.filter(({ targetTags }) => targetTags?.includes(firewallTag(instance)) === true);
}

function ruleName(instance: string, action: FirewallAction, { protocol, number }: Port): string {
  return `${instance}-${action}-${protocol}-${number}`;
}

function requireOurs(instance: string, { name, targetTags }: GcpFirewall): void {
  if (targetTags?.includes(firewallTag(instance)) === true) return;
  throw new CliError('not_owner', `The firewall rule ${name} is for something else`, {
    expected: `target tag ${firewallTag(instance)}`,
    found: targetTags?.join(', ') || 'no target tag',
    hint: 'Remove or rename that rule yourself',
  });
}

/** Rules act on the tag; a machine of an older version may lack it. */
async function ensureTag({ settings, compute }: GcpPlace, live: GcpInstance): Promise<void> {
  const tag = firewallTag(settings.instance);
  const { items = [], fingerprint } = live.tags ?? {};
  if (items.includes(tag) || !isOwn(settings, live)) return;
  const where = ['zones', settings.zone, 'instances', settings.instance, 'setTags'];
  await compute.run('POST', where, {
    items: [...items, tag],
    ...(fingerprint === undefined ? {} : { fingerprint }),
  });
}
