/** What a host name below a base domain asks for. */
export type HostTarget = {
  /** App id, instance id, or a reserved word. */
  readonly id: string;
  readonly port: number;
  /** `terminate`: TLS ends here; `h2`: the same, HTTP/2 alone; `passthrough`: TLS is the application's. */
  readonly mode: 'terminate' | 'h2' | 'passthrough';
};

const DEFAULT_PORT = 80;
const DEFAULT_PASSTHROUGH_PORT = 443;

/**
 * Reads `<id>[-<port>][s|g]` (docs/protocol/gateway.md section 2).
 * @param label the part before the base domain, lower case
 * @returns the target, or why it is none
 */
export function parseHostLabel(label: string): HostTarget | string {
  if (label.includes('.')) return 'only one level of subdomain is supported';
  const [id = '', rest, ...more] = label.split('-');
  if (id === '') return 'the app id is empty';
  if (more.length > 0) return 'the name has more than one dash';
  if (rest === undefined) return { id, port: DEFAULT_PORT, mode: 'terminate' };
  const isH2 = rest.endsWith('g');
  const withoutG = isH2 ? rest.slice(0, -1) : rest;
  const isPassthrough = withoutG.endsWith('s');
  if (isH2 && isPassthrough) return 'the flags g and s exclude each other';
  const digits = isPassthrough ? withoutG.slice(0, -1) : withoutG;
  const port = digits === '' ? defaultPort(isPassthrough) : portOf(digits);
  if (port === undefined) return 'the port is not a number from 0 to 65535';
  return { id, port, mode: isPassthrough ? 'passthrough' : isH2 ? 'h2' : 'terminate' };
}

/** The label of a name of exactly one of these domains; undefined when it is of none. */
export function labelBelow(
  name: string,
  domains: Iterable<string>,
): { label: string; domain: string } | undefined {
  for (const domain of domains) {
    if (name.endsWith(`.${domain}`)) return { label: name.slice(0, -domain.length - 1), domain };
  }
  return undefined;
}

/** A decimal number of 16 bits without sign; as the original, with leading zeros. */
export function portOf(digits: string): number | undefined {
  if (!/^[0-9]{1,10}$/.test(digits)) return undefined;
  const port = Number(digits);
  return port <= 65_535 ? port : undefined;
}

function defaultPort(isPassthrough: boolean): number {
  return isPassthrough ? DEFAULT_PASSTHROUGH_PORT : DEFAULT_PORT;
}
