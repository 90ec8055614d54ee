import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { removeAbandoned, requireOwnDirectory } from '@dstack-cloud/files';
import { GUEST_FILES } from './host-shared.ts';

/** Below the work directory of a guest: its copies of the host-shared files. */
const COPIES = '.host-shared';

/** Where a guest keeps its copies of the host-shared files. */
export function hostSharedCopies(workDir: string): string {
  return join(workDir, COPIES);
}

/**
 * Removes what one boot of a guest decrypted or was handed for itself: keys, environment, user configuration. The next
 * boot gets them again, or does not; nothing of an earlier one may be left then.
 *
 * @throws FilesError `not-ours` when the folder is a link or another user's: nothing is removed through it
 */
export function removeBootSecrets(workDir: string): void {
  const copies = hostSharedCopies(workDir);
  try {
    requireOwnDirectory(copies);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  for (const name of [...Object.values(GUEST_FILES), '.encrypted-env', '.user-config'])
    rmSync(join(copies, name), { force: true });
  rmSync(join(workDir, 'user_config'), { force: true });
  removeAbandoned(copies);
}
