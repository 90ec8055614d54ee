import { LineCounter, parseDocument } from 'yaml';
import { CliError } from '../errors.ts';

interface Service {
  readonly image?: unknown;
  readonly build?: unknown;
  readonly privileged?: unknown;
  readonly restart?: unknown;
  readonly volumes?: unknown;
}

/** Most warnings worth reading. */
const MAX_WARNINGS = 20;

/**
 * Looks at a compose file without ever changing it (chapter 50 section 2.5). Returns warnings; throws
 * `bad_compose_file` with line and column for what is no YAML, or has no services.
 */
export function checkComposeFile(text: string, name: string): string[] {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, merge: true });
  const [problem] = document.errors;
  if (problem !== undefined) {
    const { line, col } = lines.linePos(problem.pos[0]);
    throw new CliError(
      'bad_compose_file',
      `${name}:${line}:${col} is no YAML: ${problem.message.split('\n')[0]}`,
      {
        hint: `Correct line ${line} of ${name}`,
      },
    );
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    throw new CliError('bad_compose_file', `${name} cannot be expanded`, { cause: error });
  }
  const services = (value as { services?: unknown } | null)?.services;
  if (
    typeof services !== 'object' ||
    services === null ||
    Array.isArray(services) ||
    Object.keys(services).length === 0
  )
    throw new CliError('bad_compose_file', `${name} has no services`, {
      expected: 'a mapping named services with at least one service',
      found: value === null ? 'an empty file' : describe(value),
      hint: `Write a docker-compose file into ${name}`,
    });
  const warnings = Object.entries(services as Record<string, Service | null>).flatMap(([service, body]) =>
    lint(service, body ?? {}),
  );
  return warnings.slice(0, MAX_WARNINGS);
}

function lint(name: string, service: Service): string[] {
  const found: string[] = [];
  const { image } = service;
  if (typeof image === 'string' && !image.includes('@sha256:'))
    found.push(
      `Service ${name}: image ${image} is not pinned; its content is not measured (use image@sha256:…)`,
    );
  if (service.build !== undefined)
    found.push(`Service ${name}: the guest has no build context; push an image instead`);
  if (service.privileged === true)
    found.push(`Service ${name} is privileged: it can read every key of the machine`);
  if (service.restart === undefined) found.push(`Service ${name} has no restart policy`);
  for (const path of hostPaths(service.volumes))
    found.push(`Service ${name}: ${path} is a path of the machine, not of your host; it starts empty`);
  return found;
}

/** Paths of the guest that the documentation tells applications to mount. */
const GUEST_PATHS = /^(\/var)?\/run\/(dstack|tappd)(\.sock|\/|$)|^\/dstack(\/|$)/;

function hostPaths(volumes: unknown): string[] {
  if (!Array.isArray(volumes)) return [];
  return volumes
    .map((volume: unknown) => {
      if (typeof volume === 'string') return volume.split(':')[0] ?? '';
      const { type, source } = (volume ?? {}) as { type?: unknown; source?: unknown };
      return type === 'bind' && typeof source === 'string' ? source : '';
    })
    .filter((path) => /^[./~]/.test(path) && !GUEST_PATHS.test(path));
}

function describe(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value !== 'object') return `the ${typeof value} ${JSON.stringify(value)?.slice(0, 40)}`;
  return `the members ${
    Object.keys(value as object)
      .slice(0, 5)
      .join(', ') || '(none)'
  }`;
}
