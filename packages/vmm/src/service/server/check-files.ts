import type { VmmConfig } from '../config/vmm-config.ts';
import { registryPassword } from '../registry/registry-password.ts';
import { tlsCredentials } from './listener.ts';
import { operatorsOf } from './operators.ts';

/** Reads the files that a configuration names, as a start does. @throws VmmError `bad_config` */
export async function checkFiles(config: VmmConfig): Promise<void> {
  operatorsOf(config);
  const { registry, registry_auth_file } = config.image;
  if (registry_auth_file !== '') await registryPassword(registry_auth_file, registry);
  if (config.tls.key !== '') tlsCredentials(config.tls);
}
