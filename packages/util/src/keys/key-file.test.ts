import { existsSync, linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serializeAppKeys } from '@dstack-cloud/app';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { removeKeyFile } from './key-file.ts';

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'keys-'));
  path = join(directory, 'keys.json');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const KEYS = serializeAppKeys({
  diskCryptKey: new Uint8Array(32),
  envCryptKey: new Uint8Array(32),
  k256Key: new Uint8Array(32),
  k256Signature: new Uint8Array(65),
  gatewayAppId: '',
  caCert: '',
  keyProvider: { kind: 'none', key: '' },
});

test('keys of an earlier run are removed, and none are no error', async () => {
  await removeKeyFile(path);
  writeFileSync(path, KEYS, { mode: 0o600 });
  await removeKeyFile(path);
  expect(existsSync(path)).toBe(false);
});

test.each<[string, () => void]>([
  ['another file', () => writeFileSync(path, 'a database')],
  ['JSON of another kind', () => writeFileSync(path, '{}')],
  ['a folder', () => mkdirSync(path)],
  [
    'a link to keys',
    () => {
      writeFileSync(join(directory, 'other'), KEYS);
      symlinkSync('other', path);
    },
  ],
  [
    'keys with another name too',
    () => {
      writeFileSync(path, KEYS);
      linkSync(path, join(directory, 'other'));
    },
  ],
])('%s in their place is left there, and named', async (_, put) => {
  put();
  await expect(removeKeyFile(path)).rejects.toThrow(/is no file with keys of an earlier run/);
  expect(existsSync(path)).toBe(true);
});
