/**
 * Runs inside a machine of our image, typed into its console: does with one attached disk after the other what a boot does
 * with its data disk, by the same code, so that one boot shows many disks.
 *
 * Each line of input is `SERIAL KEY [pause]`, where KEY is a byte that the disk's key consists of. The answer is one line,
 * `@SERIAL ` and JSON. With `pause` the program says `@pause` when the header was read and checked, and waits for a line
 * before it opens the disk.
 */
import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import type { AppCompose } from '@dstack-cloud/app';
import { errorChain } from '@dstack-cloud/runtime';
import { pino } from 'pino';
import { diskStorage } from '../boot/disk/disk-storage.ts';
import { MAPPED_DEVICE } from '../boot/disk/encrypted-disk.ts';
import { type MachineHost, mustRun, thisMachine } from '../boot/disk/machine-host.ts';
import type { GuestConfig } from '../config/guest-config.ts';
import { GuestError } from '../errors.ts';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const nextLine = async (): Promise<string | undefined> => {
  const { value, done } = await lines.next();
  return done === true ? undefined : value;
};

/** The machine as it would be with this one disk for data. */
function machineWith(serial: string, pause: boolean): MachineHost {
  return {
    ...thisMachine,
    blockDevices: async () =>
      (await thisMachine.blockDevices()).flatMap((one) => {
        if (one.serial === serial) return [{ ...one, serial: 'data' }];
        return one.serial === 'data' || one.serial?.startsWith('case-') ? [] : [one];
      }),
    run: async (program, args, input) => {
      if (pause && program === 'cryptsetup' && args[0] === 'open') {
        process.stdout.write('@pause\n');
        await nextLine();
      }
      return await thisMachine.run(program, args, input);
    },
  };
}

async function open(serial: string, keyByte: number, pause: boolean): Promise<object> {
  const folder = await mkdtemp(join(tmpdir(), 'disk-'));
  const dataDir = join(folder, 'data');
  const host = machineWith(serial, pause);
  const found = (await thisMachine.blockDevices()).find((one) => one.serial === serial);
  if (found === undefined) return { code: 'no-such-disk' };
  // What was read before the host changed the disk must not be taken for what is on it.
  await mustRun(thisMachine, 'blockdev', ['--flushbufs', `/dev/${found.name}`]);
  const config = { runDir: folder, dataDir } as GuestConfig;
  const storage = diskStorage(config, host, pino({ level: 'silent' }));
  try {
    await storage.check();
    const keys = [{ key: new Uint8Array(32).fill(keyByte), name: undefined }];
    await storage.open({ swapSize: 0n } as AppCompose, keys);
    const witness = join(dataDir, 'witness');
    const before = (await readdir(dataDir)).includes('witness') ? await readFile(witness, 'utf8') : null;
    await writeFile(witness, `key ${keyByte}`);
    const table = await mustRun(thisMachine, 'dmsetup', ['table', MAPPED_DEVICE]);
    // START LENGTH crypt CIPHER KEY IV_OFFSET DEVICE OFFSET
    const [, , , cipher, , , , offset] = table.trim().split(' ');
    await mustRun(thisMachine, 'umount', [dataDir]);
    return { opened: true, before, cipher, offset: Number(offset) * 512 };
  } catch (error) {
    if (!(error instanceof GuestError)) return { code: 'unexpected', message: String(error) };
    return { code: error.code, message: errorChain(error) };
  } finally {
    await thisMachine.run('umount', [dataDir]);
    await thisMachine.run('cryptsetup', ['close', MAPPED_DEVICE]);
  }
}

process.stdout.write('@ready\n');
for (let line = await nextLine(); line !== undefined; line = await nextLine()) {
  const [serial = '', key = '', pause] = line.trim().split(' ');
  if (serial === '') continue;
  const result = await open(serial, Number(key), pause === 'pause');
  process.stdout.write(`@${serial} ${JSON.stringify(result)}\n`);
}
