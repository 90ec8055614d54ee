import { notYet } from './not-yet.ts';
import type { Platform } from './platform.ts';

/**
 * The table of platforms. A new one also needs its name and `NAME_config` in `project/app-schema.ts`, its name in
 * `config/global-config.ts` and `commands/new.ts` (with the help in `program.ts`), its files in
 * `templates/project-files.ts`, and a look at `prepare-project.ts`, `is-simulated.ts` and `not-yet.ts` beside this file.
 */
const PLATFORMS = new Map<string, () => Promise<Platform>>([
  ['local', async () => (await import('./local/local-platform.ts')).localPlatform],
  ['gcp', async () => (await import('./gcp/gcp-platform.ts')).gcpPlatform],
  ['nitro', async () => (await import('./nitro/nitro-platform.ts')).nitroPlatform],
]);

/** The platform of that name. Throws `not_yet` for those that this version lacks. */
export async function loadPlatform(name: string): Promise<Platform> {
  const load = PLATFORMS.get(name);
  if (load !== undefined) return await load();
  throw notYet(`Platform ${name}`);
}
