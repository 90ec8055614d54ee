import { notYet } from './not-yet.ts';
import type { Platform } from './platform.ts';

/** Adding a platform touches its own folder and this table. */
const PLATFORMS = new Map<string, () => Promise<Platform>>([
  ['local', async () => (await import('./local/local-platform.ts')).localPlatform],
  ['nitro', async () => (await import('./nitro/nitro-platform.ts')).nitroPlatform],
]);

/** The platform of that name. Throws `not_yet` for those that this version lacks. */
export async function loadPlatform(name: string): Promise<Platform> {
  const load = PLATFORMS.get(name);
  if (load !== undefined) return await load();
  throw notYet(`Platform ${name}`);
}
