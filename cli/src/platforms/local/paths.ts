import { join, resolve } from 'node:path';
import type { GlobalConfig } from '../../config/global-config.ts';
import { type Context, expandHome } from '../../context.ts';

/** Folder with every local machine. */
export function runPath(context: Context, config: GlobalConfig): string {
  return resolve(expandHome(context, config.local.run_path));
}

/** Folder of one new machine. */
export function machineDirectory(context: Context, config: GlobalConfig, id: string): string {
  return join(runPath(context, config), id);
}
