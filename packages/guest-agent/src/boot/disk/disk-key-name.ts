import type { KeyName } from '@dstack-cloud/ra-tls';
import { GuestError } from '../../errors.ts';

const PREFIX = 'key';
/** Epoch, and root id (20 bytes) in base64url: a LUKS2 header has 47 characters for it. */
const FORM = /^key:(0|[1-9][0-9]{0,9})(?::([A-Za-z0-9_-]{27}))?$/;
const MAX_EPOCH = 0xffff_ffff;

/**
 * Which keys of a key service a disk was made with, as its header says it. Nothing of it is secret or trusted: it decides
 * which older keys are asked for, and the key that comes must open the disk.
 */
export function formatDiskKeyName(name: KeyName | undefined): string {
  if (name === undefined) return '';
  const root = name.rootId === undefined ? '' : `:${Buffer.from(name.rootId).toString('base64url')}`;
  return `${PREFIX}:${name.epoch}${root}`;
}

/** @throws GuestError `disk-refused` */
export function parseDiskKeyName(text: string): KeyName | undefined {
  if (text === '') return undefined;
  const [, epoch, root] = FORM.exec(text) ?? [];
  if (epoch === undefined || Number(epoch) > MAX_EPOCH)
    throw new GuestError(
      'disk-refused',
      "The data disk's LUKS header names keys in a form that this guest did not make",
      {
        expected: `${PREFIX}:EPOCH:ROOT`,
      },
    );
  return {
    epoch: Number(epoch),
    ...(root === undefined ? {} : { rootId: new Uint8Array(Buffer.from(root, 'base64url')) }),
  };
}
