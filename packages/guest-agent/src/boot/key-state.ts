import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import { fromHex, toHex, utf8Text } from '@dstack-cloud/encoding';
import type { KeyName } from '@dstack-cloud/ra-tls';
import { z } from 'zod';
import { GuestError } from '../errors.ts';

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
 *
 * @throws GuestError `key-state-damaged` when it is there and cannot be used: with newer keys the application would find
 *   its data unreadable, and what it needs would be forgotten
 */
export async function readKeyState(dataDir: string, appId: Uint8Array): Promise<KeyName | undefined> {
  const path = join(dataDir, FILE);
  let state: z.infer<typeof schema>;
  try {
    const bytes = await readFileBounded(path, MAX_BYTES, { noFollow: true });
    state = schema.parse(JSON.parse(utf8Text(bytes)));
  } catch (cause) {
    if (cause instanceof AppError && cause.code === 'file-missing') return undefined;
    throw new GuestError(
      'key-state-damaged',
      `${path} cannot be read, so which keys this machine's data needs is not known: restore it, or remove it if the newest keys open all data`,
      { cause },
    );
  }
  if (state.app_id !== toHex(appId)) return undefined;
  return {
    epoch: state.key_epoch,
    ...(state.root_id === undefined ? {} : { rootId: fromHex(state.root_id) }),
  };
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
