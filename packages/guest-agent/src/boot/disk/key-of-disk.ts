import { equalBytes } from '@dstack-cloud/encoding';
import type { KeyName } from '@dstack-cloud/ra-tls';
import { GuestError } from '../../errors.ts';
import { formatDiskKeyName } from './disk-key-name.ts';
import type { DiskKey } from './storage.ts';

/** The key that the disk was made with; the present one for a new disk, or one that names none. @throws GuestError */
export function keyOfDisk(keys: readonly DiskKey[], wanted: KeyName | undefined): DiskKey {
  const [present] = keys;
  const sameRoot = (name: KeyName | undefined) =>
    name?.rootId === undefined || wanted?.rootId === undefined || equalBytes(name.rootId, wanted.rootId);
  const found =
    wanted === undefined ? present : keys.find(({ name }) => name?.epoch === wanted.epoch && sameRoot(name));
  if (found !== undefined) return found;
  throw new GuestError(
    'disk-refused',
    'The data disk was made with keys that the key provider does not give any more; ask its operator for that epoch',
    {
      expected: formatDiskKeyName(wanted),
      found: keys.map(({ name }) => formatDiskKeyName(name) || 'keys without a name').join(', '),
    },
  );
}
