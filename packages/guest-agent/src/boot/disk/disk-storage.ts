import { join } from 'node:path';
import { equalBytes } from '@dstack-cloud/encoding';
import type { KeyName } from '@dstack-cloud/ra-tls';
import type { GuestConfig } from '../../config/guest-config.ts';
import { GuestError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import { chooseDataDevice } from './data-device.ts';
import { formatDiskKeyName } from './disk-key-name.ts';
import { diskKeyName, finishDisk, MAPPED_DEVICE, openEncryptedDisk } from './encrypted-disk.ts';
import { makeExt4, makeSwap, mountExt4 } from './file-system.ts';
import { growPartition } from './grow-partition.ts';
import type { MachineHost } from './machine-host.ts';
import type { DiskKey, Storage } from './storage.ts';

const ARGUMENT = 'dstack.data_device=';

/** The encrypted disk of a real machine, mounted at the data folder. */
export function diskStorage(config: GuestConfig, host: MachineHost, log: Logger): Storage {
  return {
    check: async () => {
      // A machine without a disk, or with one that is not ours, is found out before any key leaves the key service.
      return await diskKeyName(host, (await findDevice(host)).path);
    },
    open: async ({ swapSize }, keys) => {
      const { path: device } = await findDevice(host);
      await growPartition(device.slice('/dev/'.length), await host.blockDevices(), host, log);
      const scratch = join(config.runDir, 'dstack-boot');
      const wanted = await diskKeyName(host, device);
      const { key, name: keyName } = keyOf(keys, wanted);
      const { fresh } = await openEncryptedDisk({ host, device, key, keyName, scratch, log });
      const disk = { host, device: MAPPED_DEVICE, mountPoint: config.dataDir, log };
      if (fresh) {
        await makeExt4(disk);
        await finishDisk({ host, device, keyName });
      }
      await mountExt4(disk, fresh);
      await makeSwap(host, config.dataDir, swapSize);
    },
  };
}

/** The key that the disk was made with; the present one for a new disk, or one that names none. @throws GuestError */
export function keyOf(keys: readonly DiskKey[], wanted: KeyName | undefined): DiskKey {
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

async function findDevice(host: MachineHost): Promise<{ path: string }> {
  const words = await host.commandLine();
  const argument = words.find((word) => word.startsWith(ARGUMENT))?.slice(ARGUMENT.length);
  return await chooseDataDevice(await host.blockDevices(), host, argument);
}
