import type { Project } from '../project/app-config.ts';

export const SIMULATED_TEXT =
  'The TEE is SIMULATED, for development only; nothing here is secret from this host';

/** Whether a project runs with software instead of a TEE. */
export function isSimulated({ config }: Project): boolean {
  return config.platform === 'local' || (config.platform === 'nitro' && config.nitro_config.host === 'local');
}
