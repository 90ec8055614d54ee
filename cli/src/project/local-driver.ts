import type { GlobalConfig } from '../config/global-config.ts';
import type { Project } from './app-config.ts';

/** How the project's machine runs on this host: as `local_config.driver` of app.json says, else the configuration. */
export function localDriver(config: GlobalConfig, project: Project): 'process' | 'vm' {
  return project.config.local_config.driver ?? config.local.driver;
}
