import { AGENT_SOCKETS } from '../agent-sockets.ts';
import type { ComposeFile } from './compose-file.ts';
import { type ComposeMap, type ComposeNode, memberOf } from './compose-node.ts';
import { quoted } from './compose-source.ts';
import type { ProcessService } from './process-plan.ts';

/** Members of a service that plain processes do; `image` is what every one of them goes without. */
const DONE = new Set([
  ...['image', 'command', 'entrypoint', 'environment', 'env_file', 'working_dir', 'restart', 'stop_signal'],
  ...['stop_grace_period', 'depends_on', 'volumes', 'ports', 'configs', 'secrets', 'profiles'],
]);
/** Members of the long forms that plain processes do. */
const DONE_INSIDE: ReadonlyMap<string, readonly string[]> = new Map([
  ['env_file', ['path', 'required']],
  ['depends_on', ['condition', 'required']],
  ['volumes', ['type', 'source', 'target', 'read_only']],
  ['ports', ['target', 'published', 'protocol']],
  ['configs', ['source', 'target', 'mode']],
  ['secrets', ['source', 'target', 'mode']],
]);
/** Top-level members that are done or have no effect. */
const DONE_ABOVE = new Set(['services', 'configs', 'secrets', 'version', 'name']);

/** Most services named for one member. */
const MAX_NAMED = 5;

/** What a compose file asks for and plain processes do not do, each member once. */
export function notesOn(
  file: ComposeFile,
  active: ReadonlyMap<string, ComposeMap>,
  services: readonly ProcessService[],
): string[] {
  return [...undone(file, active), ...waiting(services), ...ports(services), ...readOnly(services)];
}

function undone(file: ComposeFile, active: ReadonlyMap<string, ComposeMap>): string[] {
  const users = new Map<string, string[]>();
  const use = (member: string, name: string): void => {
    users.set(member, [...(users.get(member) ?? []).filter((other) => other !== name), name]);
  };
  for (const [name, service] of active)
    for (const member of service.entries.keys()) {
      const node = memberOf(service, member);
      if (node === undefined || member.startsWith('x-')) continue;
      if (!DONE.has(member)) use(member, name);
      const done = DONE_INSIDE.get(member);
      if (done === undefined) continue;
      for (const inner of innerMembers(node))
        if (!done.includes(inner) && !inner.startsWith('x-')) use(`${member}.${inner}`, name);
    }
  const above = [...file.root.entries.keys()].filter(
    (member) => !DONE_ABOVE.has(member) && !member.startsWith('x-') && !isPlainVolumes(file, member),
  );
  const inServices = [...users].map(([member, names]) => `${shown(member)} of ${listed(names)}`);
  const parts = [...inServices, ...above.map((member) => `top-level ${shown(member)}`)];
  return parts.length === 0 ? [] : [`Not done for plain processes: ${parts.join('; ')}`];
}

/** Members of the mappings in a list, or under the names of a mapping. */
function innerMembers(node: ComposeNode): string[] {
  const inside = node.kind === 'list' ? node.items : [];
  const named = node.kind === 'map' ? [...node.entries.values()].map(({ value }) => value) : [];
  return [...inside, ...named].flatMap((one) => (one.kind === 'map' ? [...one.entries.keys()] : []));
}

/** Volumes that only have a name are folders; drivers and other people's volumes are an engine's. */
function isPlainVolumes(file: ComposeFile, member: string): boolean {
  const volumes = member === 'volumes' ? memberOf(file.root, member) : undefined;
  if (member !== 'volumes') return false;
  if (volumes?.kind !== 'map') return true;
  return [...volumes.entries.values()].every(
    ({ value }) => value.kind !== 'map' || [...value.entries.keys()].every((key) => key === 'labels'),
  );
}

function waiting(services: readonly ProcessService[]): string[] {
  return services.flatMap(({ name, dependsOn }) =>
    dependsOn
      .filter(({ condition }) => condition === 'healthy')
      .map((one) => `Service ${name} waits until ${one.name} is started, not until it is healthy`),
  );
}

/** The host forwards one port; the process that has it is told by PORT. */
function ports(services: readonly ProcessService[]): string[] {
  const published = services.flatMap(({ name, ports: all }) =>
    all.map((port) => ({ name, text: port.published ?? port.target, isPort: port.isPort })),
  );
  const [first, ...others] = published;
  if (first === undefined) return [];
  const notes = first.isPort
    ? []
    : [
        `Service ${first.name} must listen on the port in its variable PORT; nothing maps port ${first.text} to it`,
      ];
  if (others.length > 0)
    notes.push(
      `Not mapped for plain processes: ${listed(others.map(({ name, text }) => `port ${text} of ${name}`))}`,
    );
  return notes;
}

function readOnly(services: readonly ProcessService[]): string[] {
  const sockets = [...AGENT_SOCKETS.dstack, ...AGENT_SOCKETS.tappd];
  const names = services.filter(({ volumes }) =>
    volumes.some((volume) => volume.readOnly && !sockets.includes(volume.source ?? '')),
  );
  return names.length === 0
    ? []
    : [
        `Plain processes can write to volumes that are read-only for ${listed(names.map(({ name }) => name))}`,
      ];
}

function listed(names: readonly string[]): string {
  const more = names.length - MAX_NAMED;
  return `${names.slice(0, MAX_NAMED).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

/** Names of members come from the file. */
function shown(member: string): string {
  return /^[A-Za-z0-9_.-]{1,64}$/.test(member) ? member : quoted(member);
}
