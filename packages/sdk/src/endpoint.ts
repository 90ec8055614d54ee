import { existsSync } from 'node:fs';
import { AGENT_SOCKETS } from '@dstack-cloud/app';
import { DstackError } from './errors.ts';

/** Where an agent is. */
export type Endpoint = { readonly socketPath: string } | { readonly url: URL };

const VARIABLES = { dstack: 'DSTACK_SIMULATOR_ENDPOINT', tappd: 'TAPPD_SIMULATOR_ENDPOINT' } as const;

/**
 * The agent's address: as given, of the environment (a simulator), or the first socket that exists.
 *
 * @param given path of a Unix socket, or an http(s) URL
 * @throws DstackError `no-agent`, `argument`
 */
export function findEndpoint(kind: 'dstack' | 'tappd', given?: string): Endpoint {
  const chosen = given ?? (process.env[VARIABLES[kind]] || undefined);
  if (chosen === undefined) {
    const paths = AGENT_SOCKETS[kind];
    const found = paths.find((path) => existsSync(path));
    if (found !== undefined) return { socketPath: found };
    const advice = `mount /var/run/${kind}.sock into the container, or set ${VARIABLES[kind]} to a simulator's`;
    throw new DstackError('no-agent', `No agent here: none of ${paths.join(', ')} exists; ${advice}`);
  }
  if (/^https?:\/\//.test(chosen)) {
    if (!URL.canParse(chosen)) throw new DstackError('argument', `The endpoint ${chosen} is no URL`);
    return { url: new URL(chosen) };
  }
  const path = chosen.startsWith('unix:') ? chosen.slice('unix:'.length) : chosen;
  if (!existsSync(path)) throw new DstackError('no-agent', `Unix socket file ${path} does not exist`);
  return { socketPath: path };
}
