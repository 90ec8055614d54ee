import type { VmmConfig } from '../config/vmm-config.ts';
import { tlsCredentials } from './listener.ts';
import { operatorsOf } from './operators.ts';

/** Reads the files that a configuration names, as a start does. @throws VmmError `bad_config` */
export function checkFiles(config: VmmConfig): void {
  operatorsOf(config);
  if (config.tls.key !== '') tlsCredentials(config.tls);
}
