/**
 * Google's published schema of the Compute Engine API, as its own client ships it: which methods there are, and what each
 * takes. The emulator refuses whatever it does not describe.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

interface Field {
  readonly type: string;
  readonly rule?: string;
  readonly keyType?: string;
  readonly options?: Readonly<Record<string, unknown>>;
}
interface Definition {
  readonly fields?: Readonly<Record<string, Field>>;
  readonly values?: Readonly<Record<string, number>>;
  readonly methods?: Readonly<Record<string, { requestType: string; options: Record<string, string> }>>;
  readonly nested?: Readonly<Record<string, Definition>>;
}

/** A request that Google's table of methods knows. */
export interface KnownCall {
  /** Such as `Instances.Insert`. */
  readonly name: string;
  readonly path: Readonly<Record<string, string>>;
}

interface Route {
  readonly name: string;
  readonly method: string;
  readonly pattern: RegExp;
  readonly names: readonly string[];
  readonly body: string | undefined;
  readonly request: Definition;
}

const VERBS = ['get', 'post', 'put', 'patch', 'delete'] as const;
/** Parameters of every method; Google documents them apart. */
const COMMON = new Set(['alt', 'fields', 'prettyPrint', 'quotaUser']);

const definitions = load();
const routes = allRoutes();

/** The method that a request calls. @throws Error when there is none */
export function findCall(method: string, path: string): KnownCall {
  const route = routeOf(method, path);
  const values = route.pattern.exec(path)!.slice(1).map(decodeURIComponent);
  return { name: route.name, path: Object.fromEntries(route.names.map((name, i) => [name, values[i]!])) };
}

/** Checks parameters and body of a request against the schema. @throws Error naming the member */
export function checkCall(method: string, url: URL, body: unknown): void {
  const route = routeOf(method, url.pathname);
  const fields = route.request.fields ?? {};
  const given = new Set(route.names);
  for (const [name, value] of url.searchParams) {
    if (COMMON.has(name)) continue;
    const field = fields[name];
    if (field === undefined || name === route.body || route.names.includes(name))
      throw new Error(`${route.name} has no parameter ${name}`);
    checkText(field, value, `${route.name}: ${name}`);
    given.add(name);
  }
  if (route.body === undefined) {
    if (body !== undefined) throw new Error(`${route.name} takes no body`);
  } else if (body !== undefined) {
    checkMessage(fields[route.body]!.type, body, route.name);
    given.add(route.body);
  }
  for (const [name, { options }] of Object.entries(fields))
    if (options?.['(google.api.field_behavior)'] === 'REQUIRED' && !given.has(name))
      throw new Error(`${route.name} needs ${name}`);
}

/** Checks JSON against a message of the schema. @throws Error naming the member */
export function checkMessage(type: string, value: unknown, at: string): void {
  const message = definitions[type];
  if (message?.fields === undefined) throw new Error(`There is no message ${type}`);
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Error(`${at}: must be an object of type ${type}`);
  for (const [name, member] of Object.entries(value)) {
    const field = message.fields[name];
    const where = `${at}.${name}`;
    if (field === undefined) throw new Error(`${where}: unknown field of ${type}`);
    if (field.keyType !== undefined) {
      if (typeof member !== 'object' || member === null || Array.isArray(member))
        throw new Error(`${where}: must be a map`);
      for (const [key, one] of Object.entries(member))
        checkField(message, name, field, one, `${where}.${key}`);
    } else if (field.rule === 'repeated') {
      if (!Array.isArray(member)) throw new Error(`${where}: must be a list`);
      for (const [i, one] of member.entries()) checkField(message, name, field, one, `${where}[${i}]`);
    } else checkField(message, name, field, member, where);
  }
}

function checkField(message: Definition, name: string, field: Field, value: unknown, at: string): void {
  const must = (is: boolean, what: string): void => {
    if (!is) throw new Error(`${at}: must be ${what}, not ${JSON.stringify(value)}`);
  };
  switch (field.type) {
    case 'string': {
      must(typeof value === 'string', 'text');
      const values = message.nested?.[name.slice(0, 1).toUpperCase() + name.slice(1)]?.values;
      if (values === undefined) return;
      const allowed = Object.keys(values).filter((one) => !one.startsWith('UNDEFINED_'));
      must(allowed.includes(value as string), `one of ${allowed.join(', ')}`);
      return;
    }
    case 'bool':
      must(typeof value === 'boolean', 'true or false');
      return;
    case 'int32':
    case 'uint32':
      must(Number.isInteger(value), 'a whole number');
      return;
    case 'int64':
    case 'uint64':
      // JSON has no 64-bit integers: Google writes them as text.
      must(typeof value === 'string' && /^-?\d{1,20}$/.test(value), 'a whole number as text');
      return;
    case 'float':
    case 'double':
      must(typeof value === 'number', 'a number');
      return;
    default:
      checkMessage(field.type, value, at);
  }
}

function checkText(field: Field, text: string, at: string): void {
  if (/int/.test(field.type) && !/^-?\d+$/.test(text)) throw new Error(`${at}: must be a whole number`);
  if (field.type === 'bool' && !/^(true|false)$/.test(text)) throw new Error(`${at}: must be true or false`);
}

function routeOf(method: string, path: string): Route {
  const route = routes.find((one) => one.method === method && one.pattern.test(path));
  if (route === undefined) throw new Error(`Compute Engine has no method ${method} ${path}`);
  return route;
}

function load(): Readonly<Record<string, Definition>> {
  const path = createRequire(import.meta.url).resolve('@google-cloud/compute/build/protos/protos.json');
  let at = JSON.parse(readFileSync(path, 'utf8')) as Definition;
  for (const name of ['google', 'cloud', 'compute', 'v1']) at = at.nested![name]!;
  return at.nested!;
}

function allRoutes(): Route[] {
  const found: Route[] = [];
  for (const [service, { methods }] of Object.entries(definitions)) {
    for (const [verb, { requestType, options }] of Object.entries(methods ?? {})) {
      for (const method of VERBS) {
        const template = options[`(google.api.http).${method}`];
        if (template === undefined) continue;
        const names = [...template.matchAll(/\{(\w+)\}/g)].map(([, name]) => camelCase(name!));
        const body = options['(google.api.http).body'];
        found.push({
          ...{ name: `${service}.${verb}`, method: method.toUpperCase(), names },
          pattern: new RegExp(`^${template.replace(/\{\w+\}/g, '([^/]+)')}$`),
          body: body === undefined ? undefined : camelCase(body),
          request: definitions[requestType]!,
        });
      }
    }
  }
  return found;
}

function camelCase(name: string): string {
  return name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}
