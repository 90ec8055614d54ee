import type { ImageLock, LockedPackage } from './image-lock.ts';

/** One package that differs between two locks; a side is undefined where the package is not there. */
export interface LockChange {
  readonly name: string;
  readonly before: string | undefined;
  readonly after: string | undefined;
  /** Equal versions with different bytes. */
  readonly rebuilt: boolean;
}

/** What a new lock changes, by name; tools and image together, as both decide the image's bytes. */
export function lockChanges(before: ImageLock | undefined, after: ImageLock): LockChange[] {
  const [old, next] = [packages(before), packages(after)];
  const changes: LockChange[] = [];
  for (const name of [...new Set([...old.keys(), ...next.keys()])].sort()) {
    const [one, two] = [old.get(name), next.get(name)];
    if (one?.sha256 === two?.sha256 && one?.version === two?.version && one?.size === two?.size) continue;
    const rebuilt = one !== undefined && one.version === two?.version && one.sha256 !== two.sha256;
    changes.push({ name, before: one?.version, after: two?.version, rebuilt });
  }
  return changes;
}

function packages(lock: ImageLock | undefined): Map<string, LockedPackage> {
  if (lock === undefined) return new Map();
  const { node } = lock;
  const asPackage = { name: node.name, version: node.version, size: 0, sha256: node.integrity };
  return new Map([asPackage, ...lock.tools, ...lock.image].map((one) => [one.name, one]));
}
