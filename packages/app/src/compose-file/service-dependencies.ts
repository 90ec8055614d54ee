import { type ComposeMap, memberOf } from './compose-node.ts';
import { quoted } from './compose-source.ts';
import type { ComposeValues } from './compose-values.ts';

/** What a service waits for before it starts. */
export interface Dependency {
  readonly name: string;
  readonly at: number;
  readonly condition: 'started' | 'healthy' | 'completed';
  /** Otherwise the service starts without it. */
  readonly required: boolean;
}

const CONDITIONS: ReadonlyMap<string, Dependency['condition']> = new Map([
  ['service_started', 'started'],
  ['service_healthy', 'healthy'],
  ['service_completed_successfully', 'completed'],
]);

/** Reads `depends_on`, a list of names or a mapping with conditions. */
export function serviceDependencies(service: ComposeMap, values: ComposeValues): Dependency[] {
  const node = memberOf(service, 'depends_on');
  if (node === undefined) return [];
  if (node.kind === 'list') {
    return node.items.map((item) => {
      const name = values.text(item, 'depends_on');
      return { name, at: item.at, condition: 'started', required: true };
    });
  }
  return [...values.map(node, 'depends_on').entries].map(([name, { at, value }]) => {
    const isShort = value.kind === 'scalar' && value.text === null;
    if (isShort) return { name, at, condition: 'started', required: true };
    const options = values.map(value, `depends_on ${quoted(name)}`);
    const text = values.member(options, 'condition') ?? 'service_started';
    const condition = values.isOpen(text) ? 'started' : CONDITIONS.get(text);
    if (condition === undefined)
      return values.source.fail(
        at,
        `condition ${quoted(text)} is unknown; ${[...CONDITIONS.keys()].join(', ')}`,
      );
    return { name, at, condition, required: values.flag(options, 'required', true) };
  });
}

/**
 * Services in the order in which they start: each after those that it depends on. A service with a profile takes part
 * when the profile is active.
 *
 * @throws AppError `compose-file-invalid` when a required dependency does not take part
 */
export function startOrder<T extends { readonly name: string; readonly dependsOn: readonly Dependency[] }>(
  services: readonly T[],
  skipped: readonly string[],
  values: ComposeValues,
): T[] {
  const byName = new Map(services.map((service) => [service.name, service]));
  const order = new Set<T>();
  const visit = (service: T): void => {
    if (order.has(service)) return;
    for (const { name, at, required } of service.dependsOn) {
      const dependency = byName.get(name);
      if (dependency !== undefined) visit(dependency);
      else if (required && !values.isOpen(name)) {
        const why = skipped.includes(name) ? 'whose profile is not active' : 'which does not exist';
        values.source.fail(at, `service ${service.name} depends on ${quoted(name)}, ${why}`);
      }
    }
    order.add(service);
  };
  for (const service of services) visit(service);
  return [...order];
}
