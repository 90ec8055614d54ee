import type { ComposeFile, ComposeSection } from './compose-file.ts';
import {
  type ComposeEntry,
  type ComposeMap,
  type ComposeNode,
  listNode,
  mapNode,
  memberOf,
  textNode,
} from './compose-node.ts';
import { ComposeValues, type ValueScope } from './compose-values.ts';
import { type PortPlaces, placePorts } from './container-ports.ts';
import { emitYaml } from './emit-yaml.ts';
import { isExternal, readVolume } from './service-volumes.ts';

/** How containers of one machine are kept apart from those of others in the same engine. */
export interface ContainerPlanOptions extends ValueScope {
  /** Name of the compose project: every container, network and volume of the machine begins with it. */
  readonly project: string;
  /** Where a path of the machine lies; undefined for one that stays as it is. */
  readonly placePath: (path: string) => string | undefined;
  readonly ports: PortPlaces;
}

/** What an engine is to run. */
export interface ContainerPlan {
  /** The compose file, with the names, paths and ports of this machine. */
  readonly text: string;
  readonly notes: readonly string[];
}

/** Members that reach beyond the containers of the machine when the engine is its host's. */
const HOST_MEMBERS = [
  ...['privileged', 'cap_add', 'security_opt', 'devices', 'device_cgroup_rules', 'cgroup_parent'],
];
const NAMESPACES = ['network_mode', 'pid', 'ipc', 'uts', 'userns_mode', 'cgroup'];

/**
 * Rewrites a compose file for an engine that several machines share, so that what the machine would have for itself (names
 * of containers, networks and volumes, paths, ports) is its own there too.
 *
 * @throws AppError `compose-file-unsupported` for what belongs to another machine or to the host itself
 */
export function planContainers(file: ComposeFile, options: ContainerPlanOptions): ContainerPlan {
  const planner = new Planner(file, options);
  return { text: emitYaml(planner.root()), notes: planner.notes() };
}

class Planner {
  readonly #file: ComposeFile;
  readonly #options: ContainerPlanOptions;
  readonly #values: ComposeValues;
  #portNotes: readonly string[] = [];
  readonly #hostMembers = new Map<string, string[]>();

  constructor(file: ComposeFile, options: ContainerPlanOptions) {
    this.#file = file;
    this.#options = options;
    this.#values = new ComposeValues(file.source, options);
  }

  root(): ComposeMap {
    const { root } = this.#file;
    const { ports, notes } = placePorts(this.#file, this.#values, this.#options.ports);
    this.#portNotes = notes;
    const sections: Partial<Record<ComposeSection, (name: string, value: ComposeNode) => ComposeNode>> = {
      services: (name, value) => this.#service(name, value as ComposeMap, ports.get(name)),
      volumes: (name, value) => this.#volume(name, value),
      networks: (name, value) => this.#named('networks', name, value),
      secrets: (name, value) => this.#definition('secrets', name, value),
      configs: (name, value) => this.#definition('configs', name, value),
    };
    const entries = new Map(root.entries);
    // The name of the project is the machine's; what anchors were for is written out.
    for (const member of root.entries.keys())
      if (member === 'name' || member.startsWith('x-')) entries.delete(member);
    for (const [section, change] of Object.entries(sections)) {
      const entry = entries.get(section);
      if (entry?.value.kind !== 'map') continue;
      const changed = [...entry.value.entries].map(([name, one]): [string, ComposeEntry] => [
        name,
        { at: one.at, value: change(name, one.value) },
      ]);
      entries.set(section, { at: entry.at, value: mapNode(new Map(changed), entry.value.at) });
    }
    return mapNode(entries, root.at);
  }

  notes(): string[] {
    if (this.#hostMembers.size === 0) return [...this.#portNotes];
    const shown = [...this.#hostMembers].map(([member, services]) => `${member} of ${services.join(', ')}`);
    return [
      ...this.#portNotes,
      `On this platform these act on your own host, not on a machine: ${shown.join('; ')}`,
    ];
  }

  #service(name: string, service: ComposeMap, ports: readonly string[] | undefined): ComposeMap {
    this.#refuseForeign(name, service);
    const changed = new Map(service.entries);
    const set = (member: string, change: (node: ComposeNode) => ComposeNode): void => {
      const node = memberOf(service, member);
      if (node !== undefined) changed.set(member, { at: node.at, value: change(node) });
    };
    set('volumes', (node) => this.#volumes(node));
    set('env_file', (node) => this.#paths(node, 'path'));
    set('label_file', (node) => this.#paths(node, 'path'));
    set('build', (node) => this.#paths(node, 'context'));
    if (ports !== undefined)
      set('ports', ({ at }) =>
        listNode(
          ports.map((port) => textNode(port, at)),
          at,
        ),
      );
    const container = this.#values.member(service, 'container_name');
    if (container !== undefined) {
      set('container_name', ({ at }) => this.#text(`${this.#options.project}-${container}`, at));
      this.#alias(changed, service, container);
    }
    return mapNode(changed, service.at);
  }

  /** Other services may know a container by the name that it no longer has. */
  #alias(changed: Map<string, ComposeEntry>, service: ComposeMap, alias: string): void {
    if (memberOf(service, 'network_mode') !== undefined) return;
    const { at } = service;
    const known = memberOf(service, 'networks');
    const names =
      known?.kind === 'map'
        ? [...known.entries].map(([name, { value }]) => [name, value] as const)
        : (known?.kind === 'list' ? known.items : [textNode('default', at)]).map(
            (item) => [this.#values.text(item, 'networks'), undefined] as const,
          );
    const networks = names.map(([name, value]): [string, ComposeEntry] => {
      const before = value?.kind === 'map' ? value.entries : new Map<string, ComposeEntry>();
      const aliases = before.get('aliases')?.value;
      const items = [...(aliases?.kind === 'list' ? aliases.items : []), this.#text(alias, at)];
      const entries = new Map(before).set('aliases', { at, value: listNode(items, at) });
      return [name, { at, value: mapNode(entries, at) }];
    });
    changed.set('networks', { at, value: mapNode(new Map(networks), at) });
  }

  /** Containers of others, by their name. */
  #refuseForeign(name: string, service: ComposeMap): void {
    const { source } = this.#file;
    const links = memberOf(service, 'external_links');
    if (links !== undefined)
      source.unsupported(links.at, `service ${name}: external_links name containers of others`);
    for (const from of this.#values.list(service, 'volumes_from'))
      if (this.#values.text(from, 'volumes_from').startsWith('container:'))
        source.unsupported(from.at, `service ${name}: volumes_from names a container of others`);
    for (const member of NAMESPACES) {
      const text = this.#values.member(service, member) ?? '';
      if (text.startsWith('container:'))
        source.unsupported(
          (memberOf(service, member) ?? service).at,
          `service ${name}: ${member} names a container of others`,
        );
      if (text === 'host') this.#note(`${member}: host`, name);
    }
    for (const member of HOST_MEMBERS) {
      const node = memberOf(service, member);
      const isOff = node?.kind === 'scalar' && /^(?:false|no|off)$/i.test(node.text ?? '');
      if (node !== undefined && !isOff) this.#note(member, name);
    }
  }

  #note(member: string, service: string): void {
    this.#hostMembers.set(member, [...(this.#hostMembers.get(member) ?? []), service]);
  }

  #volumes(node: ComposeNode): ComposeNode {
    if (node.kind !== 'list') return node;
    const items = node.items.map((item) => {
      const volume = readVolume(item, this.#values);
      const path = volume?.type === 'bind' ? this.#place(volume.source) : undefined;
      if (path === undefined) return item;
      if (item.kind === 'map') return withMember(item, 'source', this.#text(path, item.at));
      const rest = this.#values.text(item, 'volumes').slice(volume?.source?.length ?? 0);
      return this.#text(`${path}${rest}`, item.at);
    });
    return listNode(items, node.at);
  }

  /** A path, a mapping that has one, or a list of these. */
  #paths(node: ComposeNode, member: string): ComposeNode {
    if (node.kind === 'list')
      return listNode(
        node.items.map((item) => this.#paths(item, member)),
        node.at,
      );
    const holder = node.kind === 'map' ? memberOf(node, member) : node;
    if (holder === undefined) return node;
    const path = this.#place(this.#values.text(holder, member));
    if (path === undefined) return node;
    const value = this.#text(path, holder.at);
    return node.kind === 'map' ? withMember(node, member, value) : value;
  }

  #volume(name: string, value: ComposeNode): ComposeNode {
    const named = this.#named('volumes', name, value);
    const options = named.kind === 'map' ? memberOf(named, 'driver_opts') : undefined;
    const device = options?.kind === 'map' ? this.#values.member(options, 'device') : undefined;
    // The local driver mounts a path of the host; that of another driver means something of its own.
    const path = device?.startsWith('/') ? this.#place(device) : undefined;
    if (named.kind !== 'map' || options?.kind !== 'map' || path === undefined) return named;
    return withMember(named, 'driver_opts', withMember(options, 'device', this.#text(path, options.at)));
  }

  /** A network or volume with a name of its own would be everybody's. */
  #named(section: 'networks' | 'volumes', name: string, value: ComposeNode): ComposeNode {
    if (isExternal(value))
      this.#file.source.unsupported(
        value.at,
        `${section} ${name} is external: this machine has none but those that the file makes`,
      );
    const own = value.kind === 'map' ? this.#values.member(value, 'name') : undefined;
    if (value.kind !== 'map' || own === undefined) return value;
    return withMember(value, 'name', this.#text(`${this.#options.project}_${own}`, value.at));
  }

  #definition(section: 'secrets' | 'configs', name: string, value: ComposeNode): ComposeNode {
    if (isExternal(value))
      this.#file.source.unsupported(value.at, `${section} ${name} is external: this machine has none`);
    return value.kind === 'map' ? this.#paths(value, 'file') : value;
  }

  #place(path: string | undefined): string | undefined {
    if (path === undefined || this.#values.isOpen(path)) return undefined;
    return this.#options.placePath(path);
  }

  /** A text that is interpolated already. */
  #text(text: string, at: number): ComposeNode {
    return textNode(text.replaceAll('$', '$$$$'), at);
  }
}

function withMember(map: ComposeMap, name: string, value: ComposeNode): ComposeMap {
  const at = map.entries.get(name)?.at ?? map.at;
  return mapNode(new Map(map.entries).set(name, { at, value }), map.at);
}
