import { once } from 'node:events';
import { lstatSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { isLoopbackAddress } from '@dstack-cloud/prpc';
import type { GatewayConfig } from '../config/gateway-config.ts';
import { GatewayError } from '../errors.ts';

const SOCKET = 'admin.sock';
const MIN_TOKEN = 16;

/** Where operators reach the gateway, and the token that they show; undefined when they do not. */
export type AdminPlace = {
  readonly address: 'unix' | { host: string; port: number };
  readonly token: string;
};

/**
 * Checked before anything is started: by TCP there is a token and no other machine, since a token travels in the clear.
 * @throws GatewayError `config-invalid`
 */
export function adminPlace(
  { core: { admin } }: GatewayConfig,
  environment: NodeJS.ProcessEnv = process.env,
): AdminPlace | undefined {
  if (!admin.enabled) return undefined;
  const token = admin.auth_token || environment['DSTACK_GATEWAY_ADMIN_TOKEN'] || '';
  if (token !== '' && token.length < MIN_TOKEN)
    throw new GatewayError('config-invalid', `core.admin.auth_token has fewer than ${MIN_TOKEN} characters`);
  if (admin.address === 'unix') return { address: 'unix', token };
  const address = hostAndPort(admin.address);
  if (!isLoopbackAddress(address.host))
    throw new GatewayError(
      'config-invalid',
      `core.admin.address ${admin.address} is reached from other machines; use "unix" or a loopback address, and a tunnel`,
    );
  if (token === '')
    throw new GatewayError(
      'config-invalid',
      'core.admin has an address and no auth_token: set it, or DSTACK_GATEWAY_ADMIN_TOKEN, or use address = "unix"',
    );
  return { address, token };
}

/** @param text `host:port`, `[host]:port` */
export function hostAndPort(text: string): { host: string; port: number } {
  const colon = text.lastIndexOf(':');
  return { host: text.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(text.slice(colon + 1)) };
}

/** Listens at a socket of the state folder, which is ours and locked, with mode 0600. @returns its path */
export async function listenPrivately(server: Server, folder: string): Promise<string> {
  const path = join(folder, SOCKET);
  const left = lstatSync(path, { throwIfNoEntry: false });
  // Of a gateway that was killed: whoever holds the lock is the only one.
  if (left?.isSocket()) rmSync(path);
  const mask = process.umask(0o177);
  try {
    server.listen(path);
  } finally {
    process.umask(mask);
  }
  try {
    await once(server, 'listening');
  } catch (cause) {
    throw new GatewayError('listen-failed', `Cannot listen on ${path}: ${(cause as Error).message}`, {
      cause,
    });
  }
  return path;
}
