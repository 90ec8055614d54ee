export { removeAbandoned, temporaryName } from './abandoned.ts';
export { surviveClosedOutput } from './closed-output.ts';
export { FilesError, type FilesErrorCode } from './errors.ts';
export { holderLives, holderTag } from './holder.ts';
export { isThere } from './is-there.ts';
export { type LockOptions, lockHolder, withLock } from './lock.ts';
export { makeOwnDirectory, requireOwnDirectory, requireSafeParent } from './own-directory.ts';
export { openOwnFile } from './own-file.ts';
export { isAlive, type ProcessIdentity, processIdentity } from './process-identity.ts';
