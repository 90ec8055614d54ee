import type { Json } from '../compute/resources.ts';

/** A port of an instance that somebody on this host reaches. */
export interface OpenPort {
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
}

/** Of a rule that allows all ports, those that a test looks at are few; more are not forwarded. */
const MAX_PORTS = 64;
const PRIORITY = 1000;

/** The ports that firewall rules open to this host's loopback, for an instance with these tags. Without a rule none is. */
export function openPorts(rules: Iterable<Json>, tags: readonly string[]): OpenPort[] {
  const applying = [...rules].filter((rule) => applies(rule, tags));
  const open: OpenPort[] = [];
  for (const rule of applying)
    for (const one of portsOf(rule, 'allowed')) {
      const isDenied = applying.some(
        (other) =>
          priorityOf(other) <= priorityOf(rule) &&
          portsOf(other, 'denied').some(
            ({ protocol, port }) => protocol === one.protocol && port === one.port,
          ),
      );
      const isKnown = open.some(({ protocol, port }) => protocol === one.protocol && port === one.port);
      if (!isDenied && !isKnown && open.length < MAX_PORTS) open.push(one);
    }
  return open;
}

function applies(rule: Json, tags: readonly string[]): boolean {
  if (rule['disabled'] === true || rule['direction'] === 'EGRESS') return false;
  const targets = (rule['targetTags'] ?? []) as string[];
  if (targets.length > 0 && !targets.some((tag) => tags.includes(tag))) return false;
  const sources = (rule['sourceRanges'] ?? ['0.0.0.0/0']) as string[];
  return sources.some((range) => range === '0.0.0.0/0' || range.startsWith('127.'));
}

const priorityOf = (rule: Json): number => Number(rule['priority'] ?? PRIORITY);

function portsOf(rule: Json, what: 'allowed' | 'denied'): OpenPort[] {
  return ((rule[what] ?? []) as Json[]).flatMap((entry) => {
    const protocol = String(entry['IPProtocol'] ?? entry['iPProtocol'] ?? entry['I_p_protocol']);
    if (protocol !== 'tcp' && protocol !== 'udp') return [];
    return ((entry['ports'] ?? []) as string[]).flatMap((text) => {
      const [first = 0, last = first] = text.split('-').map(Number);
      return Array.from({ length: Math.min(last - first + 1, MAX_PORTS) }, (_, i) => ({
        ...{ protocol: protocol as 'tcp' | 'udp', port: first + i },
      }));
    });
  });
}
