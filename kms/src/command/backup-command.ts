import { lstat, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { writeFileAtomic } from '@dstack-cloud/app';
import { toHex } from '@dstack-cloud/encoding';
import { parseRecipient } from '../backup/recipient.ts';
import { splitRoots } from '../backup/split-roots.ts';
import { KmsError } from '../errors.ts';
import { readBackedUp } from '../key-directory/load-keys.ts';
import { COMMON_OPTIONS, type Command } from './command.ts';

/** `dstack-kms backup`: the root keys as encrypted shares, one file per recipient. */
export const backupCommand: Command = {
  usage: 'backup --threshold T --recipient NAME=KEY... --out DIR',
  summary: 'write the root keys as encrypted shares, of which T restore them',
  async run(args, { load, now, print }) {
    const { values } = parseArgs({
      args: [...args],
      options: {
        ...COMMON_OPTIONS,
        threshold: { type: 'string' },
        recipient: { type: 'string', multiple: true },
        out: { type: 'string' },
      },
    });
    const { out, recipient: recipients = [] } = values;
    if (out === undefined) throw new KmsError('backup-invalid', 'backup needs --out DIR');
    const threshold = Number(values.threshold);
    const keys = await readBackedUp(load(values.config).core.cert_dir, now());
    const files = await splitRoots(
      {
        ...keys.roots,
        tempCaScalar: keys.tempKey.scalar,
        history: keys.history.map(({ roots }) => roots),
      },
      threshold,
      recipients.map(parseRecipient),
      Math.floor(now()),
    );
    await mkdir(out, { recursive: true, mode: 0o700 });
    // All or none: a set of which some files are of an older backup restores nothing.
    for (const { name } of files) await assertAbsent(join(out, name));
    for (const { name, data } of files) await writeFileAtomic(join(out, name), data, { mode: 0o600 });
    print({
      threshold,
      shares: files.map(({ name }) => join(out, name)),
      k256_pubkey: toHex(keys.k256Pubkey),
      ca_pubkey: toHex(keys.rootCa.key.spki),
      ...(keys.history.length === 0 ? {} : { retired_roots: keys.history.map(({ id }) => id) }),
    });
  },
};

async function assertAbsent(path: string): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw new KmsError('backup-invalid', `${path} cannot be looked at: ${error.message}`, { cause: error });
  });
  if (found !== undefined)
    throw new KmsError('backup-invalid', `${path} exists; give a directory without older shares`);
}
