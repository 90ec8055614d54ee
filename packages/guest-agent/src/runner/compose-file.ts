import { parseDocument } from 'yaml';
import { GuestError } from '../errors.ts';
import { type ComposeMembers, composeSchema, type ServiceMembers } from './compose-schema.ts';
import { type InterpolationScope, interpolate } from './interpolate.ts';
import { splitCommand } from './split-command.ts';

/** Most services that one compose file may start as plain processes. */
const MAX_SERVICES = 64;
/** Deepest nesting of a compose file. */
const MAX_DEPTH = 32;

/** A service as a plain process needs it. */
export interface ComposeService {
  readonly name: string;
  readonly image: string | undefined;
  /** Argument vector: entrypoint, then command. */
  readonly argv: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly workingDir: string | undefined;
  readonly restart: RestartPolicy;
  readonly stopSignal: NodeJS.Signals;
  readonly stopGraceMs: number;
  readonly dependsOn: readonly string[];
  /** Paths on the left side of its volumes. */
  readonly volumeSources: readonly string[];
  readonly hasPorts: boolean;
  /** Files from inline configs: target path and content. */
  readonly configs: readonly { readonly target: string; readonly content: string }[];
}

/** When a service that ended is started again. */
export interface RestartPolicy {
  readonly when: 'never' | 'on-failure' | 'always';
  /** Attempts of `on-failure:N`; Infinity without a number. */
  readonly max: number;
}

/** Services in the order in which they start: a service after those that it depends on. */
export interface ComposeFile {
  readonly services: readonly ComposeService[];
  /** Services that only an unselected profile starts. */
  readonly skipped: readonly string[];
}

/**
 * Reads a docker-compose file for plain processes: YAML, interpolation of every value, then the members that a process
 * can have.
 *
 * @throws GuestError `compose-invalid`, or `compose-unsupported` when a service cannot run without an engine
 */
export function parseComposeFile(text: string, scope: InterpolationScope): ComposeFile {
  const document = interpolateAll(parseYaml(text), scope, 0);
  const result = composeSchema.safeParse(document);
  if (!result.success) {
    const problems = result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
    throw new GuestError('compose-invalid', `docker-compose.yaml: ${problems.join('; ')}`);
  }
  const entries = Object.entries(result.data.services);
  if (entries.length === 0) throw new GuestError('compose-invalid', 'docker-compose.yaml: no services');
  if (entries.length > MAX_SERVICES) {
    throw new GuestError('compose-invalid', `docker-compose.yaml: more than ${MAX_SERVICES} services`);
  }
  const active = entries.filter(([, service]) => !service.profiles?.length);
  const inline = result.data.configs ?? {};
  const services = active.map(([name, service]) => readService(name, service, inline, scope));
  return {
    services: startOrder(services),
    skipped: entries.filter(([, service]) => service.profiles?.length).map(([name]) => name),
  };
}

function parseYaml(text: string): unknown {
  const document = parseDocument(text, { merge: true, uniqueKeys: true, prettyErrors: true });
  const [problem] = document.errors;
  if (problem !== undefined) {
    const cause = problem.message.split('\n')[0];
    throw new GuestError('compose-invalid', `docker-compose.yaml is not valid YAML: ${cause}`, {
      cause: problem,
    });
  }
  try {
    // The alias limit stops a few lines from growing into gigabytes.
    return document.toJS({ maxAliasCount: 100 });
  } catch (cause) {
    throw new GuestError('compose-invalid', 'docker-compose.yaml cannot be expanded', { cause });
  }
}

function interpolateAll(value: unknown, scope: InterpolationScope, depth: number): unknown {
  if (depth > MAX_DEPTH) throw new GuestError('compose-invalid', 'docker-compose.yaml is nested too deeply');
  if (typeof value === 'string') return interpolate(value, scope);
  if (Array.isArray(value)) return value.map((item) => interpolateAll(item, scope, depth + 1));
  if (value === null || typeof value !== 'object') return value;
  const entries = Object.entries(value).map(([key, item]) => [key, interpolateAll(item, scope, depth + 1)]);
  return Object.fromEntries(entries);
}

type Configs = NonNullable<ComposeMembers['configs']>;

function readService(
  name: string,
  service: ServiceMembers,
  inline: Configs,
  scope: InterpolationScope,
): ComposeService {
  const argv = [...words(service.entrypoint), ...words(service.command)];
  if (argv.length === 0) {
    throw new GuestError(
      'compose-unsupported',
      `Service ${name} declares no command: it cannot run without a container engine; install Docker or Podman, or add a command that this machine has`,
      { found: name },
    );
  }
  const dependsOn = service.depends_on ?? [];
  return {
    name,
    image: service.image,
    argv,
    environment: environment(service.environment ?? {}, scope.variables),
    workingDir: service.working_dir ?? undefined,
    restart: restartPolicy(name, service.restart ?? 'no'),
    stopSignal: (service.stop_signal as NodeJS.Signals | null | undefined) ?? 'SIGTERM',
    stopGraceMs: duration(name, service.stop_grace_period ?? '10s'),
    dependsOn: Array.isArray(dependsOn) ? dependsOn : Object.keys(dependsOn),
    volumeSources: (service.volumes ?? []).map((volume) =>
      typeof volume === 'string' ? (volume.split(':')[0] ?? '') : (volume.source ?? ''),
    ),
    hasPorts: (service.ports ?? []).length > 0,
    configs: (service.configs ?? []).map((use) => readConfig(name, use, inline)),
  };
}

function words(value: ServiceMembers['command']): string[] {
  if (value === null || value === undefined) return [];
  return typeof value === 'string' ? splitCommand(value) : value.map(String);
}

/** A name without a value takes its value from where compose itself runs, and is left out when that has none. */
function environment(
  value: NonNullable<ServiceMembers['environment']>,
  variables: InterpolationScope['variables'],
): Record<string, string> {
  const given: [string, unknown][] = Array.isArray(value)
    ? value.map((line) => {
        const equals = line.indexOf('=');
        return equals < 0 ? [line, null] : [line.slice(0, equals), line.slice(equals + 1)];
      })
    : Object.entries(value);
  const known = (name: string): string | undefined =>
    Object.hasOwn(variables, name) ? variables[name] : undefined;
  const resolved = given.map(([name, item]): [string, unknown] => [name, item ?? known(name)]);
  return Object.fromEntries(
    resolved.filter(([, item]) => item !== undefined).map(([name, item]) => [name, String(item)]),
  );
}

function restartPolicy(service: string, text: string): RestartPolicy {
  const found = /^(no|always|unless-stopped|on-failure)(?::([0-9]{1,6}))?$/.exec(text);
  if (found === null || (found[2] !== undefined && found[1] !== 'on-failure')) {
    throw new GuestError('compose-invalid', `Service ${service}: unknown restart policy ${text}`);
  }
  if (found[1] === 'no') return { when: 'never', max: 0 };
  if (found[1] === 'on-failure') {
    return { when: 'on-failure', max: found[2] === undefined ? Number.POSITIVE_INFINITY : Number(found[2]) };
  }
  return { when: 'always', max: Number.POSITIVE_INFINITY };
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

function duration(service: string, text: string): number {
  const parts = [...text.matchAll(/([0-9]{1,9}(?:\.[0-9]+)?)(ms|s|m|h)/g)];
  if (parts.length === 0 || parts.map(([whole]) => whole).join('') !== text) {
    throw new GuestError('compose-invalid', `Service ${service}: ${text} is no duration`);
  }
  return parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * (UNIT_MS[unit ?? ''] ?? 0), 0);
}

function readConfig(
  service: string,
  use: NonNullable<ServiceMembers['configs']>[number],
  inline: Configs,
): { target: string; content: string } {
  const source = typeof use === 'string' ? use : use.source;
  const content = inline[source]?.content;
  if (content === undefined) {
    throw new GuestError(
      'compose-unsupported',
      `Service ${service}: config ${source} has no inline content; a plain process can be given nothing else`,
    );
  }
  return { target: (typeof use === 'string' ? undefined : use.target) ?? `/${source}`, content };
}

function startOrder(services: readonly ComposeService[]): ComposeService[] {
  const byName = new Map(services.map((service) => [service.name, service]));
  const order = new Set<ComposeService>();
  const visit = (service: ComposeService, path: readonly string[]): void => {
    if (order.has(service)) return;
    if (path.includes(service.name)) {
      throw new GuestError(
        'compose-invalid',
        `Services depend on each other: ${[...path, service.name].join(' -> ')}`,
      );
    }
    for (const name of service.dependsOn) {
      const dependency = byName.get(name);
      if (dependency === undefined) {
        throw new GuestError(
          'compose-invalid',
          `Service ${service.name} depends on ${name}, which does not exist`,
        );
      }
      visit(dependency, [...path, service.name]);
    }
    order.add(service);
  };
  for (const service of services) visit(service, []);
  return [...order];
}
