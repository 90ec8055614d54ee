import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '@dstack-cloud/app';
import { toHex, utf8 } from '@dstack-cloud/encoding';
import type { KeyName } from '@dstack-cloud/ra-tls';
import { GuestError } from '../../errors.ts';
import type { Logger } from '../../log.ts';
import { formatDiskKeyName } from './disk-key-name.ts';
import { keyOfDisk } from './key-of-disk.ts';
import {
  checkLuksHeader,
  completeLuksHeader,
  type DiskState,
  diskState,
  LUKS_DATA_OFFSET,
  type LuksHeader,
  UNFINISHED_LABEL,
} from './luks-header.ts';
import { type MachineHost, mustRun, runOrFail } from './machine-host.ts';
import type { DiskKey } from './storage.ts';

/** Name of the opened disk below `/dev/mapper`. */
const MAPPER = 'dstack_data_disk';
export const MAPPED_DEVICE: string = `/dev/mapper/${MAPPER}`;

/** As much of the header area and of the data area as tells an empty disk from a used one, bytes. */
const HEADER_PROBE = 32 * 1024;
const DATA_PROBE = 1024 * 1024;

/** Status of cryptsetup(8) when no key of the header is the one that it was given. */
const NO_PERMISSION = 2;

/** The key is 32 random bytes, which no number of iterations makes better; the format's minimum is fastest. */
const FORMAT = [
  ...['--type', 'luks2', '--offset', String(LUKS_DATA_OFFSET / 512), '--sector-size', '512'],
  ...['--cipher', 'aes-xts-plain64', '--key-size', '512', '--hash', 'sha256'],
  ...['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000', '--use-urandom'],
];

export interface EncryptedDiskOptions {
  readonly host: MachineHost;
  /** The disk or partition. */
  readonly device: string;
  /** The present key first, which alone a new disk gets and remembers by name; the passphrase is a key's lower-case hex. */
  readonly keys: readonly DiskKey[];
  /** Folder in memory, for the copy of the header. */
  readonly scratch: string;
  readonly log: Logger;
}

/** An open disk. */
interface OpenDisk {
  /** It has no file system yet, and `finishDisk` must follow when it has one. */
  readonly fresh: boolean;
  readonly keyName: KeyName | undefined;
}

/**
 * Opens the data disk, or makes it when it is empty or was never finished. The header is read once, checked, and the
 * checked copy is what names the key and opens the disk: a host that changes it in between changes nothing. A disk that is
 * made has the present key, whatever the host showed before.
 *
 * @throws GuestError `disk-refused`, `disk-failed`
 */
export async function openEncryptedDisk(options: EncryptedDiskOptions): Promise<OpenDisk> {
  const { host, device, keys, log } = options;
  const state = await stateOf(options);
  if (state !== 'luks') {
    log.info({ device, state }, 'Data disk is formatted');
    const present = keyOfDisk(keys, undefined);
    const label = ['--label', UNFINISHED_LABEL, '--subsystem', formatDiskKeyName(present.name)];
    await mustRun(
      host,
      'cryptsetup',
      ['luksFormat', '--batch-mode', ...FORMAT, ...label, '--key-file', '-', device],
      {
        input: passphrase(present.key),
      },
    );
    await openChecked({ ...options, keys: [present] }, UNFINISHED_LABEL);
    return { fresh: true, keyName: present.name };
  }
  const { uuid, keyName, wasCut } = await openChecked(options, '');
  log.info({ device, uuid }, 'Data disk is open');
  if (wasCut) await finishDisk({ host, device, keyName });
  return { fresh: false, keyName };
}

/** Opens the disk by a copy of its header that was checked; also a new one, which the host can change after formatting. */
async function openChecked(
  { host, device, keys, scratch }: EncryptedDiskOptions,
  label: string,
): Promise<Pick<LuksHeader, 'uuid' | 'keyName'> & { wasCut: boolean }> {
  const stored = await host.read(device, 0, LUKS_DATA_OFFSET);
  const complete = completeLuksHeader(stored);
  const header = complete ?? stored;
  const { uuid, keyName } = checkLuksHeader(header, label);
  const { key } = keyOfDisk(keys, keyName);
  const copy = join(scratch, 'luks-header');
  await mkdir(scratch, { recursive: true, mode: 0o700 });
  await writeFileAtomic(copy, header);
  try {
    const args = ['open', '--type', 'luks2', '--header', copy, '--key-file', '-', device, MAPPER];
    const { code } = await runOrFail(host, 'cryptsetup', args, {
      input: passphrase(key),
      good: [0, NO_PERMISSION],
    });
    if (code === NO_PERMISSION)
      throw new GuestError(
        'disk-refused',
        'The data disk does not open with the key of this machine: it belongs to another instance or application; attach its own disk, or an empty one',
        { expected: 'the key of this machine', found: `the disk ${uuid}` },
      );
  } finally {
    await rm(copy, { force: true });
  }
  return { uuid, keyName, wasCut: complete !== undefined };
}

/**
 * Which keys a disk was made with, before any key is asked for; undefined for a new disk.
 *
 * @throws GuestError `disk-refused`
 */
export async function diskKeyName(host: MachineHost, device: string): Promise<KeyName | undefined> {
  if ((await stateOf({ host, device })) !== 'luks') return undefined;
  const header = await host.read(device, 0, LUKS_DATA_OFFSET);
  return checkLuksHeader(completeLuksHeader(header) ?? header).keyName;
}

/** Marks a new disk as complete, once its file system is on it. */
export async function finishDisk({
  host,
  device,
  keyName,
}: Pick<EncryptedDiskOptions, 'host' | 'device'> & Pick<OpenDisk, 'keyName'>): Promise<void> {
  await mustRun(host, 'sync', ['--', MAPPED_DEVICE]);
  await mustRun(host, 'cryptsetup', [
    'config',
    device,
    '--label',
    '',
    '--subsystem',
    formatDiskKeyName(keyName),
  ]);
  await mustRun(host, 'sync', ['--', device]);
}

async function stateOf({ host, device }: Pick<EncryptedDiskOptions, 'host' | 'device'>): Promise<DiskState> {
  return diskState(
    await host.read(device, 0, HEADER_PROBE),
    await host.read(device, LUKS_DATA_OFFSET, DATA_PROBE),
  );
}

function passphrase(key: Uint8Array): Uint8Array {
  return utf8(toHex(key));
}
