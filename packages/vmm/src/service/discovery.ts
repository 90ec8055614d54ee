import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '@dstack-cloud/app';
import { makeOwnDirectory } from '@dstack-cloud/files';
import type { VmmConfig } from './config/vmm-config.ts';
import { VERSION } from './version.ts';

/**
 * Writes where this service is to be found, for command lines of the same user: a file in
 * `$XDG_RUNTIME_DIR/dstack-vmm`.
 *
 * @returns removes it; undefined where there is no such folder
 */
export async function announce(
  config: VmmConfig,
  address: string,
  configFile: string | undefined,
  runtimeDir: string | undefined = process.env['XDG_RUNTIME_DIR'],
): Promise<(() => Promise<void>) | undefined> {
  if (!config.discovery.enabled || !runtimeDir) return undefined;
  const folder = join(runtimeDir, 'dstack-vmm');
  makeOwnDirectory(folder);
  const id = randomUUID();
  const path = join(folder, `${id}.json`);
  const description = {
    id,
    pid: process.pid,
    address: reachableAddress(address, config.tls.key !== ''),
    working_dir: process.cwd(),
    config_file: configFile ?? '',
    image_path: config.image_path,
    run_path: config.run_path,
    node_name: config.node_name,
    version: VERSION,
    started_at: Math.floor(Date.now() / 1000),
  };
  await writeFileAtomic(path, `${JSON.stringify(description, null, 2)}\n`, { mode: 0o600 });
  return () => rm(path, { force: true });
}

/** As command lines read it: without a scheme they take `HOST:PORT` for plain HTTP, and the last colon for the port's. */
function reachableAddress(address: string, hasTls: boolean): string {
  if (address.startsWith('unix:')) return address;
  const [host, port] = [
    address.slice(0, address.lastIndexOf(':')),
    address.slice(address.lastIndexOf(':') + 1),
  ];
  const isV6 = host.includes(':');
  if (!hasTls && !isV6) return address;
  return `${hasTls ? 'https' : 'http'}://${isV6 ? `[${host}]` : host}:${port}`;
}
