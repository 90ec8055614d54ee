import type { ComposeFile } from './compose-file.ts';
import { type ComposeMap, type ComposeNode, memberOf } from './compose-node.ts';
import { quoted } from './compose-source.ts';

/** Another service that one names. */
interface Reference {
  readonly name: string;
  readonly at: number;
  readonly required: boolean;
}

/**
 * Refuses services that depend on, or extend, what does not exist or leads back to themselves.
 *
 * @throws AppError `compose-file-invalid`
 */
export function checkDependencies(file: ComposeFile): void {
  refuseMissing(file, dependencies, 'depends on');
  refuseCycles(file, dependencies, 'depend on');
  refuseMissing(file, extended, 'extends');
  refuseCycles(file, extended, 'extend');
}

type References = (service: ComposeMap) => readonly Reference[];

/** Names that only a variable gives are known when the file is interpolated. */
const isLiteral = ({ name }: Reference): boolean => !name.includes('$');

function dependencies(service: ComposeMap): Reference[] {
  const node = memberOf(service, 'depends_on');
  if (node?.kind === 'list')
    return node.items.flatMap((item) =>
      isText(item) ? [{ name: item.text, at: item.at, required: true }] : [],
    );
  if (node?.kind !== 'map') return [];
  return [...node.entries].map(([name, { at, value }]) => {
    const required = value.kind === 'map' ? memberOf(value, 'required') : undefined;
    return { name, at, required: !(required?.kind === 'scalar' && required.text === 'false') };
  });
}

/** The service of the same file that this one extends. */
function extended(service: ComposeMap): Reference[] {
  const node = memberOf(service, 'extends');
  const name = node?.kind === 'map' && !memberOf(node, 'file') ? memberOf(node, 'service') : node;
  return isText(name) ? [{ name: name.text, at: name.at, required: true }] : [];
}

function isText(node: ComposeNode | undefined): node is ComposeNode & { kind: 'scalar'; text: string } {
  return node?.kind === 'scalar' && node.text !== null;
}

function refuseMissing({ source, root, services }: ComposeFile, look: References, verb: string): void {
  // What an included file defines is not here to be found.
  if (root.entries.has('include')) return;
  for (const [from, service] of services)
    for (const reference of look(service).filter(isLiteral))
      if (reference.required && !services.has(reference.name))
        source.fail(reference.at, `service ${from} ${verb} ${quoted(reference.name)}, which does not exist`);
}

function refuseCycles({ source, services }: ComposeFile, look: References, verb: string): void {
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (name: string, at: number): void => {
    const service = services.get(name);
    if (service === undefined || done.has(name)) return;
    if (path.includes(name)) {
      const circle = [...path.slice(path.indexOf(name)), name].join(' -> ');
      source.fail(at, `services ${verb} each other: ${circle}`);
    }
    path.push(name);
    for (const reference of look(service)) visit(reference.name, reference.at);
    path.pop();
    done.add(name);
  };
  for (const [name, { at }] of services) visit(name, at);
}
