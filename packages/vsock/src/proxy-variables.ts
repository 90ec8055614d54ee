import { VsockError } from './errors.ts';

/** A proxy that is asked by CONNECT. */
export interface HttpProxy {
  readonly host: string;
  readonly port: number;
}

/**
 * The proxy that the environment names for an https target: `HTTPS_PROXY`, then `ALL_PROXY`, small or capital letters,
 * unless `NO_PROXY` names the target.
 *
 * @throws VsockError `bad-address` for anything but `http://HOST:PORT`; a password in it is not repeated
 */
export function proxyFor(host: string, env: NodeJS.ProcessEnv): HttpProxy | undefined {
  const [name, value] = first(env, ['https_proxy', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY']);
  if (name === undefined || value === undefined || isExempt(host, env)) return undefined;
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url?.protocol !== 'http:' || url.username !== '' || url.password !== '')
    throw new VsockError('bad-address', `${name} does not name a proxy that can be used`, {
      expected: 'http://HOST:PORT, without a user',
    });
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port || 80) };
}

function isExempt(host: string, env: NodeJS.ProcessEnv): boolean {
  const [, list = ''] = first(env, ['no_proxy', 'NO_PROXY']);
  const name = host.toLowerCase();
  return list
    .split(',')
    .map((one) =>
      one
        .trim()
        .toLowerCase()
        .replace(/^\*?\./, ''),
    )
    .some((one) => one === '*' || (one !== '' && (name === one || name.endsWith(`.${one}`))));
}

function first(env: NodeJS.ProcessEnv, names: readonly string[]): [string | undefined, string | undefined] {
  const name = names.find((one) => (env[one] ?? '') !== '');
  return [name, name === undefined ? undefined : env[name]];
}
