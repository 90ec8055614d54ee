import type { ComposeFile } from './compose-file.ts';
import type { ComposeValues } from './compose-values.ts';
import { type PortUse, servicePorts } from './service-ports.ts';

/** A port of the host that leads to a port of the machine. */
export interface PortMapping {
  readonly address: string;
  readonly host: number;
  readonly guest: number;
}

export type PortPlaces = readonly PortMapping[];

/** Most ports of one range. */
const MAX_RANGE = 256;

interface Port {
  readonly service: string;
  readonly use: PortUse;
  readonly target: number;
  readonly published: number | undefined;
}

/**
 * The ports of each service as the engine of the host publishes them: a port of the machine that the host forwards gets
 * the host's port for it, every other one a free port of the host, on loopback, so that no two machines want the same.
 * A mapping that nothing names gets the first port that is left.
 */
export function placePorts(
  file: ComposeFile,
  values: ComposeValues,
  mappings: PortPlaces,
): { readonly ports: ReadonlyMap<string, readonly string[]>; readonly notes: readonly string[] } {
  const ports = [...file.services].flatMap(([service, node]) =>
    servicePorts(node, values).flatMap((use) => expand(service, use, values)),
  );
  const places = new Map<Port, PortMapping>();
  const notes: string[] = [];
  const place = (mapping: PortMapping, matches: (port: Port) => boolean): Port | undefined => {
    const found = ports.find((port) => port.use.protocol === 'tcp' && !places.has(port) && matches(port));
    if (found !== undefined) places.set(found, mapping);
    return found;
  };
  const unnamed = mappings.filter(
    (mapping) =>
      !place(mapping, ({ published }) => published === mapping.guest) &&
      !place(mapping, ({ published }) => published === mapping.host),
  );
  for (const mapping of unnamed) {
    const port = place(mapping, () => true);
    if (port !== undefined && !port.use.isPort)
      notes.push(
        `No service publishes port ${mapping.guest} of the machine; its URL leads to port ${port.target} of ${port.service}`,
      );
  }
  const result = new Map<string, string[]>();
  for (const port of ports) {
    const mapping = places.get(port);
    const { address, host } = mapping ?? { address: '127.0.0.1', host: '' };
    const text = `${address}:${host}:${port.target}/${port.use.protocol}`;
    result.set(port.service, [...(result.get(port.service) ?? []), text]);
  }
  return { ports: result, notes };
}

function expand(service: string, use: PortUse, values: ComposeValues): Port[] {
  const targets = range(use.target);
  const published = use.published === undefined ? undefined : range(use.published);
  if (targets.length === 0 || targets.length > MAX_RANGE || published?.length === 0)
    return values.source.fail(use.at, `this range of ports is empty, or has more than ${MAX_RANGE}`);
  return targets.map((target, index) => ({
    service,
    use,
    target,
    published: targets.length === published?.length ? published[index] : undefined,
  }));
}

function range(text: string): number[] {
  const [first, last] = text.split('-').map(Number);
  const start = first ?? Number.NaN;
  const end = last ?? start;
  if (!(start >= 0 && end <= 65_535 && start <= end)) return [];
  return Array.from({ length: Math.min(end - start, MAX_RANGE) + 1 }, (_, at) => start + at);
}
