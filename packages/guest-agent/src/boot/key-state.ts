import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import { fromHex, toHex, utf8Text } from '@dstack-cloud/encoding';
import type { KeyName } from '@dstack-cloud/ra-tls';
import { z } from 'zod';
import type { Logger } from '../log.ts';

/** On the machine's own disk, where it outlives a boot. Nothing in it is secret. */
const FILE = '.key-state.json';
const MAX_BYTES = 4096;

const hex20 = z.string().regex(/^[0-9a-f]{40}$/);
const schema = z.strictObject({
  version: z.literal(1),
  app_id: hex20,
  key_epoch: z.int().min(0).max(0xffff_ffff),
  root_id: hex20.optional(),
});

/**
 * The oldest keys that this machine's data needs, as the last boot left it; undefined for a new machine, and for data
 * of another application. It only decides which keys are asked for: a host that changes it gets no key that the KMS
 * does not release, and data that does not open ends the boot.
 */
export async function readKeyState(
  dataDir: string,
  appId: Uint8Array,
  log: Logger,
): Promise<KeyName | undefined> {
  const path = join(dataDir, FILE);
  try {
    const state = schema.parse(
      JSON.parse(utf8Text(await readFileBounded(path, MAX_BYTES, { noFollow: true }))),
    );
    if (state.app_id !== toHex(appId)) return undefined;
    return {
      epoch: state.key_epoch,
      ...(state.root_id === undefined ? {} : { rootId: fromHex(state.root_id) }),
    };
  } catch (error) {
    if (error instanceof AppError && error.code === 'file-missing') return undefined;
    log.warn(
      { path, error: (error as Error).message },
      'Key state cannot be read: older keys are not asked for',
    );
    return undefined;
  }
}

/** Remembers which keys the data needs from now on; written whole or not at all. */
export async function writeKeyState(dataDir: string, appId: Uint8Array, name: KeyName): Promise<void> {
  const state: z.infer<typeof schema> = {
    version: 1,
    app_id: toHex(appId),
    key_epoch: name.epoch,
    ...(name.rootId === undefined ? {} : { root_id: toHex(name.rootId) }),
  };
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  await writeFileAtomic(join(dataDir, FILE), `${JSON.stringify(state)}\n`);
}
