import { CliError, EXIT } from '../../errors.ts';
import type { ComputeApi, GcpFirewall, GcpInstance } from './api/compute-api.ts';
import { explainGcp } from './api/gcp-error.ts';
import type { GcpPlace } from './gcp-place.ts';
import { firewallTag, isOwn } from './resources.ts';

export type FirewallAction = 'allow' | 'deny';

interface Port {
  readonly protocol: 'tcp' | 'udp';
  readonly number: number;
}

/** `N` or `N/tcp`, `N/udp`. @throws CliError `bad_argument` */
export function parsePort(text: string): Port {
  const match = /^(\d{1,5})(?:\/(tcp|udp))?$/.exec(text);
  const number = Number(match?.[1]);
  if (match !== null && number >= 1 && number <= 65_535)
    return { number, protocol: (match[2] ?? 'tcp') as Port['protocol'] };
  throw new CliError('bad_argument', `${JSON.stringify(text)} is no port`, {
    expected: 'a number from 1 to 65535, with /tcp or /udp if you like',
    exitCode: EXIT.usage,
  });
}

/** A network in CIDR form. @throws CliError `bad_argument` */
export function parseSource(text: string): string {
  const v4 = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:\/(\d{1,2}))?$/.exec(text);
  const isV4 = v4?.slice(1, 5).every((part) => Number(part) < 256) === true && Number(v4[5] ?? 32) <= 32;
  const isV6 =
    /^[0-9a-fA-F:]*:[0-9a-fA-F:]*(\/\d{1,3})?$/.test(text) && Number(text.split('/')[1] ?? 128) <= 128;
  if (isV4 || isV6) return text.includes('/') ? text : `${text}/${isV4 ? 32 : 128}`;
  throw new CliError('bad_argument', `${JSON.stringify(text)} is no network`, {
    expected: 'an address or a network, such as 203.0.113.7/32',
    exitCode: EXIT.usage,
  });
}

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
