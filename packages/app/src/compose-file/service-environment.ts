import { type ComposeMap, memberOf } from './compose-node.ts';
import { quoted } from './compose-source.ts';
import type { ComposeValues } from './compose-values.ts';

/** Where the environment that the project seals is found, by the names that compose files use for it. */
const SEALED_ENV = /^(?:\.\/)?\.env$|^\/dstack\/\.host-shared\/\.decrypted-env$/;

/** Whether an env_file is the sealed environment of the machine, which travels, and not a file of the author's. */
export function isSealedEnv(path: string): boolean {
  return SEALED_ENV.test(path);
}

/** One file that `env_file` names. */
export interface EnvFileUse {
  readonly path: string;
  readonly at: number;
  readonly required: boolean;
}

/** The files of `env_file` in their order. */
export function envFiles(service: ComposeMap, values: ComposeValues): EnvFileUse[] {
  const node = memberOf(service, 'env_file');
  if (node === undefined) return [];
  const items = node.kind === 'list' ? node.items : [node];
  return items.map((item) => {
    if (item.kind === 'scalar') return { path: values.text(item, 'env_file'), at: item.at, required: true };
    const one = values.map(item, 'env_file');
    const path = values.member(one, 'path') ?? values.source.fail(item.at, 'env_file has no path');
    return { path, at: item.at, required: values.flag(one, 'required', true) };
  });
}

/**
 * The variables of `environment`, as text. A name without a value takes that of the machine's own variable, and is left
 * out when there is none.
 */
export function serviceEnvironment(
  service: ComposeMap,
  values: ComposeValues,
  variables: Readonly<Record<string, string>>,
): Map<string, string> {
  const result = new Map<string, string>();
  const node = memberOf(service, 'environment');
  if (node === undefined) return result;
  const set = (name: string, value: string | undefined, at: number): void => {
    if (name === '' || /[=\0]/.test(name))
      values.source.fail(at, `${quoted(name)} cannot be the name of a variable`);
    const text = value ?? (Object.hasOwn(variables, name) ? variables[name] : undefined);
    if (text?.includes('\0')) values.source.fail(at, `the value of ${quoted(name)} holds a NUL character`);
    if (text !== undefined) result.set(name, text);
  };
  if (node.kind === 'list')
    for (const item of node.items) {
      const line = values.text(item, 'environment');
      const equals = line.indexOf('=');
      if (equals < 0) set(line, undefined, item.at);
      else set(line.slice(0, equals), line.slice(equals + 1), item.at);
    }
  else
    for (const [name, { at, value }] of values.map(node, 'environment').entries) {
      const isMissing = value.kind === 'scalar' && value.text === null;
      set(name, isMissing ? undefined : values.text(value, `environment ${quoted(name)}`), at);
    }
  return result;
}
