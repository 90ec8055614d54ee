import { checkDependencies } from './check-dependencies.ts';
import { type ComposeEntry, type ComposeMap, mapNode, memberOf } from './compose-node.ts';
import { ComposeSource, quoted } from './compose-source.ts';
import { readYaml } from './read-yaml.ts';

/** Most services in one file. */
const MAX_SERVICES = 256;
/** Names of services; they name logs, folders and routes too. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;
/** Top-level mappings from names to definitions. */
const SECTIONS = ['services', 'networks', 'volumes', 'secrets', 'configs'] as const;

export type ComposeSection = (typeof SECTIONS)[number];

/** A compose file, read within bounds and not yet interpolated. */
export interface ComposeFile {
  readonly source: ComposeSource;
  /** All documents of the file as one. */
  readonly root: ComposeMap;
  readonly services: ReadonlyMap<string, ComposeMap>;
}

/**
 * Reads a docker-compose file as far as every engine reads it: YAML, one or more documents, services with usable names
 * whose dependencies exist and end.
 *
 * @throws AppError `compose-file-invalid` with the place in the file
 */
export function readComposeFile(text: string, file = 'docker-compose.yaml'): ComposeFile {
  const source = new ComposeSource(text.replace(/^\ufeff/, ''), file);
  const documents = readYaml(source).flatMap((document) => {
    if (document.kind === 'scalar' && document.text === null) return [];
    if (document.kind !== 'map')
      return source.fail(document.at, 'the file has no services; a mapping is expected here');
    return [document];
  });
  const root = documents.reduce<ComposeMap>(
    (merged, document) => addDocument(merged, document, source),
    mapNode(new Map(), 0),
  );
  const services = readServices(root, source);
  checkDependencies({ source, root, services });
  return { source, root, services };
}

/** The definitions of a section by name. */
export function sectionOf({ root }: ComposeFile, section: ComposeSection): ReadonlyMap<string, ComposeEntry> {
  const found = memberOf(root, section);
  return found?.kind === 'map' ? found.entries : new Map();
}

/** Compose merges documents in their order; what two documents define is refused instead of merged by guesswork. */
function addDocument(merged: ComposeMap, document: ComposeMap, source: ComposeSource): ComposeMap {
  const entries = new Map(merged.entries);
  for (const [key, entry] of document.entries) {
    const before = entries.get(key);
    const section = SECTIONS.find((name) => name === key);
    if (before === undefined || (section === undefined && key !== 'include')) entries.set(key, entry);
    else if (before.value.kind === 'map' && entry.value.kind === 'map') {
      const value = union(before.value, entry.value, source);
      entries.set(key, { at: before.at, value });
    } else source.fail(entry.at, `${quoted(key)} stands in two documents`);
  }
  return mapNode(entries, document.at);
}

function union(first: ComposeMap, second: ComposeMap, source: ComposeSource): ComposeMap {
  const entries = new Map(first.entries);
  for (const [name, entry] of second.entries) {
    const before = entries.get(name);
    if (before !== undefined)
      source.fail(
        entry.at,
        `${quoted(name)} stands in two documents (first on line ${source.line(before.at)})`,
      );
    entries.set(name, entry);
  }
  return mapNode(entries, first.at);
}

function readServices(root: ComposeMap, source: ComposeSource): ReadonlyMap<string, ComposeMap> {
  for (const section of SECTIONS) {
    const found = memberOf(root, section);
    if (found === undefined) continue;
    if (found.kind !== 'map')
      source.fail(found.at, `the file has no ${section}; a mapping from names is expected here`);
    for (const [name, { at }] of found.entries)
      if (!NAME.test(name))
        source.fail(at, `${section}: ${quoted(name)} is no name; a name is ${NAME.source.slice(1, -1)}`);
  }
  const found = memberOf(root, 'services');
  const entries = found?.kind === 'map' ? found.entries : new Map<string, ComposeEntry>();
  if (entries.size === 0)
    source.fail(found?.at ?? 0, 'the file has no services; a mapping named services is expected');
  if (entries.size > MAX_SERVICES) source.fail(found?.at ?? 0, `more than ${MAX_SERVICES} services`);
  const services = new Map<string, ComposeMap>();
  for (const [name, { at, value }] of entries) {
    if (value.kind !== 'map') source.fail(at, `service ${name} must be a mapping`);
    services.set(name, value);
  }
  return services;
}
