import type { IncomingMessage } from 'node:http';
import { readJson } from './registry-body.ts';
import { registryFailed } from './registry-error.ts';
import { getFollowing, type Reach, targetOf } from './registry-request.ts';

const MAX_CHALLENGE = 4096;
const MAX_TOKEN = 16 * 1024;
/** RFC 6750, section 2.1. */
const TOKEN = /^[A-Za-z0-9._~+/=-]+$/;

/** What a registry's challenge is answered with. */
interface Credentials {
  readonly repository: string;
  /** Value of `Authorization` with a password; undefined for what anybody may read. */
  readonly password: string | undefined;
}

/**
 * The value of `Authorization` that a registry's challenge asks for (RFC 9110, section 11.6.1, and the token authentication
 * of the distribution project): the password itself, or a token from where the challenge says. That place is told the
 * password, over https, as the registry itself would be; no place to which it redirects is.
 *
 * @param challenge value of `WWW-Authenticate`
 * @throws VmmError `registry_failed`
 */
export async function answerChallenge(
  challenge: string | undefined,
  { repository, password }: Credentials,
  reach: Reach,
  signal: AbortSignal,
): Promise<string> {
  if (/^Basic\b/i.test(challenge ?? '')) {
    if (password !== undefined) return password;
    throw registryFailed(
      'HTTP 401: it wants a password; name a file that has it with image.registry_auth_file',
    );
  }
  const { realm, service } = parametersOf(challenge);
  if (realm === undefined)
    throw registryFailed('HTTP 401, with neither a wish for a password nor a place where tokens are given');
  const url = targetOf(realm, new URL(reach.origin), reach);
  if (service !== undefined) url.searchParams.set('service', service);
  // Never the scope that the challenge names: reading is all that is wanted.
  url.searchParams.set('scope', `repository:${repository}:pull`);
  const request = { accept: 'application/json', authorization: password, signal };
  const answer = await tokenIn(await getFollowing(url, request, reach), signal, reach);
  const { token, access_token: access } = answer as { token?: unknown; access_token?: unknown };
  const found = token ?? access;
  if (typeof found !== 'string' || found.length > MAX_TOKEN || !TOKEN.test(found))
    throw registryFailed('it gives no token');
  return `Bearer ${found}`;
}

async function tokenIn(response: IncomingMessage, signal: AbortSignal, reach: Reach): Promise<object> {
  if (response.statusCode === 200) return await readJson(response, signal, reach);
  response.destroy();
  throw registryFailed(`HTTP ${response.statusCode} where it gives tokens`);
}

/** Parameters of a challenge with scheme Bearer. */
function parametersOf(challenge = ''): { readonly realm?: string; readonly service?: string } {
  const [, list] = /^Bearer +(.*)$/i.exec(challenge.slice(0, MAX_CHALLENGE)) ?? [];
  const found = new Map(
    [...(list ?? '').matchAll(/([a-z_]+)="([^"]*)"/g)].map(([, key = '', value = '']) => [key, value]),
  );
  const [realm, service] = [found.get('realm'), found.get('service')];
  return { ...(realm === undefined ? {} : { realm }), ...(service === undefined ? {} : { service }) };
}
