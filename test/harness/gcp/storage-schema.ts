/**
 * Google's published schema of the Cloud Storage JSON API, as the types and paths of its own client have it: they are
 * generated from the discovery document.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

/** A type of the client: text of a scalar, or members of an object. */
type Shape = string | ReadonlyMap<string, Shape>;

interface Route {
  readonly name: string;
  readonly method: string;
  readonly pattern: RegExp;
  readonly names: readonly string[];
  readonly required: readonly string[];
}

const folder = createRequire(import.meta.url)
  .resolve('@googleapis/storage')
  .replace(/index\.js$/, '');
const interfaces = readInterfaces(readFileSync(`${folder}v1.d.ts`, 'utf8'));
const routes = readRoutes(readFileSync(`${folder}v1.js`, 'utf8'));

/** The method of a request and its path's values, after everything else was checked. @throws Error */
export function checkStorageCall(
  method: string,
  url: URL,
  body: unknown,
): { name: string; path: Readonly<Record<string, string>> } {
  // Media uploads have the same method below another root.
  const path = url.pathname.replace(/^\/upload(?=\/)/, '');
  const route = routes.find((one) => one.method === method && one.pattern.test(path));
  if (route === undefined) throw new Error(`Cloud Storage has no method ${method} ${url.pathname}`);
  const values = route.pattern.exec(path)!.slice(1).map(decodeURIComponent);
  const known = new Map([
    ...interfaces.get('StandardParameters')!,
    ...interfaces.get(`Params$Resource$${route.name}`)!,
  ]);
  const given = new Set(route.names);
  for (const [name, value] of url.searchParams) {
    const shape = known.get(name);
    if (shape === undefined || name === 'requestBody')
      throw new Error(`${route.name} has no parameter ${name}`);
    const isFine = shape !== 'number' || /^\d+$/.test(value);
    if (!isFine || (shape === 'boolean' && !/^(true|false)$/.test(value)))
      throw new Error(`${route.name}: ${name} must be a ${String(shape)}`);
    given.add(name);
  }
  for (const name of route.required) if (!given.has(name)) throw new Error(`${route.name} needs ${name}`);
  if (body !== undefined) {
    const shape = known.get('requestBody');
    if (shape === undefined) throw new Error(`${route.name} takes no body`);
    checkShape(shape, body, route.name);
  }
  return { name: route.name, path: Object.fromEntries(route.names.map((name, i) => [name, values[i]!])) };
}

function checkShape(shape: Shape, value: unknown, at: string): void {
  if (typeof shape !== 'string') {
    checkMembers(shape, value, at);
    return;
  }
  const list = /^Array<(.+)>$/s.exec(shape)?.[1] ?? /^(.+)\[\]$/s.exec(shape)?.[1];
  if (list !== undefined) {
    if (!Array.isArray(value)) throw new Error(`${at}: must be a list`);
    for (const [i, one] of value.entries()) checkShape(list, one, `${at}[${i}]`);
    return;
  }
  if (shape.startsWith('Schema$')) {
    checkMembers(interfaces.get(shape)!, value, at);
    return;
  }
  const map = /^\{\s*\[key: string\]: (.+);\s*\}$/s.exec(shape)?.[1];
  if (map !== undefined) {
    if (typeof value !== 'object' || value === null) throw new Error(`${at}: must be a map`);
    for (const [key, one] of Object.entries(value)) checkShape(map, one, `${at}.${key}`);
    return;
  }
  if (!['string', 'number', 'boolean'].includes(shape)) throw new Error(`${at}: no rule for type ${shape}`);
  if (typeof value !== shape) throw new Error(`${at}: must be a ${shape}, not ${JSON.stringify(value)}`);
}

function checkMembers(members: ReadonlyMap<string, Shape>, value: unknown, at: string): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Error(`${at}: must be an object`);
  for (const [name, member] of Object.entries(value)) {
    const shape = members.get(name);
    if (shape === undefined) throw new Error(`${at}.${name}: unknown field`);
    checkShape(shape, member, `${at}.${name}`);
  }
}

function readInterfaces(source: string): ReadonlyMap<string, ReadonlyMap<string, Shape>> {
  const text = source.replace(/\/\*[\s\S]*?\*\//g, '');
  const found = new Map<string, ReadonlyMap<string, Shape>>();
  for (const { 1: name, index, 0: head } of text.matchAll(/interface ([\w$]+)(?: extends \w+)? \{/g))
    found.set(name!, readMembers(text, index + head.length).members);
  return found;
}

/** Members up to the closing brace; `end` is behind it. */
function readMembers(text: string, start: number): { members: Map<string, Shape>; end: number } {
  const members = new Map<string, Shape>();
  let at = start;
  for (;;) {
    const head = /\s*(?:\}|([\w$]+)\??:\s*)/y;
    head.lastIndex = at;
    const match = head.exec(text);
    if (match === null) throw new Error(`The client's types cannot be read at ${text.slice(at, at + 80)}`);
    at = head.lastIndex;
    const name = match[1];
    if (name === undefined) return { members, end: at };
    const object = /\{\s*(?=[\w$]+\??:)/y;
    object.lastIndex = at;
    let shape: Shape;
    if (object.test(text)) {
      const inner = readMembers(text, object.lastIndex);
      const isList = text.startsWith('>', inner.end);
      shape = inner.members;
      at = text.indexOf(';', inner.end) + 1;
      if (isList) throw new Error(`A list of objects in ${name} has no rule`);
    } else {
      const rest = /((?:\{[^}]*\}|Array<\{[\s\S]*?\}>|[^;{])*);/y;
      rest.lastIndex = at;
      const type = rest.exec(text)?.[1];
      if (type === undefined) throw new Error(`The type of ${name} cannot be read`);
      shape = type.replace(/ \| null$/, '').trim();
      at = rest.lastIndex;
    }
    members.set(name, shape);
  }
}

function readRoutes(source: string): Route[] {
  const found: Route[] = [];
  let group = '';
  const pieces =
    /class Resource\$(\w+)|^ {8}(\w+)\(paramsOrCallback|'(\/storage\/v1\/[^']*)'|method: '([A-Z]+)'|requiredParams: \[([^\]]*)\]|pathParams: \[([^\]]*)\]/gm;
  let verb = '';
  let template = '';
  let method = '';
  let required: string[] = [];
  for (const [, resource, call, path, http, needs, inPath] of source.matchAll(pieces)) {
    if (resource !== undefined) group = resource;
    else if (call !== undefined) verb = call;
    else if (path !== undefined) template = path;
    else if (http !== undefined) method = http;
    else if (needs !== undefined) required = [...needs.matchAll(/'(\w+)'/g)].map(([, name]) => name!);
    else if (inPath !== undefined) {
      found.push({
        name: `${group}$${verb.slice(0, 1).toUpperCase()}${verb.slice(1)}`,
        method,
        pattern: new RegExp(`^${template.replace(/\{\w+\}/g, '([^/]+)')}$`),
        names: [...template.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!),
        required,
      });
    }
  }
  return found;
}
