import { join } from 'node:path';
import type { GuestConfig } from '../../config/guest-config.ts';
import type { Logger } from '../../log.ts';
import { chooseDataDevice } from './data-device.ts';
import { diskKeyName, finishDisk, MAPPED_DEVICE, openEncryptedDisk } from './encrypted-disk.ts';
import { makeExt4, makeSwap, mountExt4 } from './file-system.ts';
import { growPartition } from './grow-partition.ts';
import type { MachineHost } from './machine-host.ts';
import type { Storage } from './storage.ts';

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
      const { fresh, keyName } = await openEncryptedDisk({ host, device, keys, scratch, log });
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

async function findDevice(host: MachineHost): Promise<{ path: string }> {
  const words = await host.commandLine();
  const argument = words.find((word) => word.startsWith(ARGUMENT))?.slice(ARGUMENT.length);
  return await chooseDataDevice(await host.blockDevices(), host, argument);
}
