import type { ComposeMap, ComposeNode } from './compose-node.ts';
import { quoted } from './compose-source.ts';
import type { ComposeValues } from './compose-values.ts';

/** One published port, or one range of them. */
export interface PortUse {
  readonly at: number;
  /** Port, or `from-to`, of the container. */
  readonly target: string;
  /** Port, or `from-to`, of the machine; undefined for any. */
  readonly published: string | undefined;
  readonly protocol: string;
  /** The file takes the machine's port from the variable PORT. */
  readonly isPort: boolean;
}

const RANGE = '[0-9]{1,5}(?:-[0-9]{1,5})?';
/** `[address:][published:]target[/protocol]`; an IPv6 address is in brackets. */
const SHORT = new RegExp(
  `^(?:(?<address>\\[[0-9a-fA-F:.]+\\]|[0-9]+(?:\\.[0-9]+){3}):)?(?:(?<published>${RANGE})?:)?(?<target>${RANGE})(?:/(?<protocol>[a-z]+))?$`,
);

/** The ports that a service publishes. A text that a variable still changes is left out. */
export function servicePorts(service: ComposeMap, values: ComposeValues): PortUse[] {
  return values.list(service, 'ports').flatMap((item) => readPort(item, values));
}

function readPort(item: ComposeNode, values: ComposeValues): PortUse[] {
  const { at } = item;
  if (item.kind === 'map') {
    const target = values.member(item, 'target') ?? values.source.fail(at, 'the port has no target');
    const published = values.member(item, 'published');
    const isPort = namesPort(item.entries.get('published')?.value);
    return [{ at, target, published, protocol: values.member(item, 'protocol') ?? 'tcp', isPort }];
  }
  const text = values.text(item, 'ports');
  if (values.isOpen(text)) return [];
  const found = SHORT.exec(text)?.groups;
  const ends = `${found?.['published'] ?? ''}-${found?.['target'] ?? ''}`.split('-').filter(Boolean);
  if (found === undefined || ends.some((port) => Number(port) > 65_535))
    return values.source.fail(at, `${quoted(text)} is no port; published:target is expected, in quotes`);
  return [
    {
      at,
      target: found['target'] ?? '',
      published: found['published'],
      protocol: found['protocol'] ?? 'tcp',
      isPort: namesPort(item),
    },
  ];
}

function namesPort(node: ComposeNode | undefined): boolean {
  return node?.kind === 'scalar' && /\$(?:PORT\b|\{PORT\b)/.test(node.text ?? '');
}
