import { type ComposeFile, sectionOf } from './compose-file.ts';
import { type ComposeMap, type ComposeNode, memberOf } from './compose-node.ts';
import { quoted } from './compose-source.ts';
import type { ComposeValues } from './compose-values.ts';
import { isExternal } from './service-volumes.ts';

/** A config or secret that a service is given as a file. */
export interface FileUse {
  readonly at: number;
  readonly kind: 'config' | 'secret';
  readonly name: string;
  /** Absolute path inside the container, or a path relative to its working directory. */
  readonly target: string;
  readonly mode: number;
  readonly content: FileContent;
}

/** Where the content comes from. */
export type FileContent =
  | { readonly from: 'text'; readonly text: string }
  | { readonly from: 'variable'; readonly name: string }
  | { readonly from: 'file'; readonly path: string; readonly at: number }
  | { readonly from: 'engine' };

const DEFAULT_MODE = 0o444;

/** The configs and secrets of a service. */
export function serviceFiles(file: ComposeFile, service: ComposeMap, values: ComposeValues): FileUse[] {
  return (['config', 'secret'] as const).flatMap((kind) =>
    values.list(service, `${kind}s`).map((use) => readUse(file, kind, use, values)),
  );
}

function readUse(file: ComposeFile, kind: FileUse['kind'], use: ComposeNode, values: ComposeValues): FileUse {
  const { at } = use;
  const long = use.kind === 'map' ? use : undefined;
  const name =
    long === undefined
      ? values.text(use, `${kind}s`)
      : (values.member(long, 'source') ?? values.source.fail(at, `the ${kind} has no source`));
  const definition = sectionOf(file, `${kind}s`).get(name)?.value;
  if (definition === undefined) return values.source.fail(at, `${kind} ${quoted(name)} is not defined`);
  const target = long === undefined ? undefined : values.member(long, 'target');
  return {
    at,
    kind,
    name,
    target: kind === 'config' ? (target ?? `/${name}`) : secretTarget(target ?? name),
    mode: long === undefined ? DEFAULT_MODE : fileMode(long, values),
    content: contentOf(definition, values),
  };
}

function secretTarget(target: string): string {
  return target.startsWith('/') ? target : `/run/secrets/${target}`;
}

/** Octal as YAML 1.1 and compose read it: `0755`, `0o755`, or a text; without a leading zero a number is decimal. */
function fileMode(use: ComposeMap, values: ComposeValues): number {
  const node = memberOf(use, 'mode');
  if (node === undefined) return DEFAULT_MODE;
  const text = values.text(node, 'mode');
  if (values.isOpen(text)) return DEFAULT_MODE;
  const isOctal = (node.kind === 'scalar' && !node.plain) || /^0/.test(text);
  const mode = Number.parseInt(text.replace(/^0o/, ''), isOctal ? 8 : 10);
  const isNumber = isOctal ? /^(?:0o)?[0-7]{1,5}$/.test(text) : /^[1-9][0-9]{0,4}$/.test(text);
  if (!isNumber || mode > 0o7777)
    values.source.fail(node.at, `mode ${quoted(text)} is none; 0755 is expected`);
  return mode & 0o777;
}

/** What a definition in `configs` or `secrets` holds. */
export function contentOf(definition: ComposeNode, values: ComposeValues): FileContent {
  const map = values.map(definition, 'the definition');
  const text = values.member(map, 'content');
  if (text !== undefined) return { from: 'text', text };
  const name = values.member(map, 'environment');
  if (name !== undefined) return { from: 'variable', name };
  const path = values.member(map, 'file');
  if (path !== undefined && !isExternal(map))
    return { from: 'file', path, at: (memberOf(map, 'file') ?? map).at };
  return { from: 'engine' };
}
