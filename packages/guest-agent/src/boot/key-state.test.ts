import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encryptEnv, x25519PublicKey } from '@dstack-cloud/keys';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type NamedEnvKey, writeEnvironment } from './environment.ts';
import { readKeyState, writeKeyState } from './key-state.ts';

const log = pino({ level: 'silent' });
const appId = new Uint8Array(20).fill(1);
const rootId = new Uint8Array(20).fill(2);
let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dstack-key-state-'));
});
afterEach(() => {
  chmodSync(directory, 0o700);
  rmSync(directory, { recursive: true, force: true });
});

describe('key state', () => {
  test('is of one application, and comes back as it was written', async () => {
    const data = join(directory, 'data');
    expect(await readKeyState(data, appId)).toBeUndefined();
    for (const name of [{ epoch: 0 }, { epoch: 4_294_967_295, rootId }]) {
      await writeKeyState(data, appId, name);
      expect(await readKeyState(data, appId)).toEqual(name);
    }
    expect(await readKeyState(data, new Uint8Array(20).fill(9))).toBeUndefined();
    expect(readdirSync(data)).toEqual(['.key-state.json']);
  });

  test('that is damaged, a link or of another form is an error, not none', async () => {
    const path = join(directory, '.key-state.json');
    const damaged = { code: 'key-state-damaged' };
    const good = { version: 1, app_id: '01'.repeat(20), key_epoch: 3 };
    for (const text of [
      '',
      '{',
      'x'.repeat(5000),
      '[]',
      ...[
        { ...good, key_epoch: -1 },
        { ...good, key_epoch: 4_294_967_296 },
        { ...good, root_id: '00' },
        { ...good, version: 2 },
        { ...good, more: 1 },
      ].map((value) => JSON.stringify(value)),
    ]) {
      writeFileSync(path, text);
      await expect(readKeyState(directory, appId), text.slice(0, 80)).rejects.toMatchObject(damaged);
    }
    rmSync(path);
    writeFileSync(join(directory, 'elsewhere'), JSON.stringify(good));
    symlinkSync(join(directory, 'elsewhere'), path);
    await expect(readKeyState(directory, appId)).rejects.toMatchObject(damaged);
  });
});

describe('environment', () => {
  const key = (byte: number, epoch: number): NamedEnvKey => ({
    name: { epoch, rootId },
    key: new Uint8Array(32).fill(byte),
  });
  const vars = [{ key: 'TOKEN', value: 'secret' }];
  const opened = (sealedTo: number, envKeys: readonly NamedEnvKey[]) =>
    writeEnvironment({
      directory,
      encryptedEnv: encryptEnv(vars, x25519PublicKey(new Uint8Array(32).fill(sealedTo))),
      envKeys,
      allowedEnvs: ['TOKEN'],
      log,
    });

  test('is opened by the present key, else by an older one, and says by which', async () => {
    const keys = [key(3, 2), key(2, 1), key(1, 0)];
    for (const [byte, epoch] of [
      [3, 2],
      [2, 1],
      [1, 0],
    ] as const) {
      expect(await opened(byte, keys)).toEqual({ epoch, rootId });
      expect(readFileSync(join(directory, '.decrypted-env'), 'utf8')).toContain('secret');
    }
  });

  test('that no key opens ends the boot', async () => {
    await expect(opened(4, [key(3, 2), key(1, 0)])).rejects.toMatchObject({ code: 'env-undecryptable' });
    await expect(opened(3, [])).rejects.toMatchObject({ code: 'env-undecryptable' });
  });

  test('that is not there needs no key', async () => {
    const input = { directory, encryptedEnv: undefined, envKeys: [key(1, 0)], allowedEnvs: [], log };
    expect(await writeEnvironment(input)).toBeUndefined();
  });
});
