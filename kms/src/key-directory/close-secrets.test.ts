import { chmodSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { closeSecrets } from './close-secrets.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'close-secrets-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const modeOf = (name: string): number => statSync(join(directory, name)).mode & 0o777;
function file(name: string, mode: number): void {
  writeFileSync(join(directory, name), name);
  chmodSync(join(directory, name), mode);
}

test('closes secret keys that others could read, and nothing else', async () => {
  file('root-ca.key', 0o644);
  file('root-k256.key', 0o640);
  file('tmp-ca.key', 0o600);
  file('rpc.key', 0o400);
  file('root-ca.crt', 0o644);
  const told: unknown[] = [];
  await closeSecrets(directory, (...open) => told.push(open));
  expect(told).toEqual([
    ['root-ca.key', true],
    ['root-k256.key', true],
  ]);
  const modes = ['root-ca.key', 'root-k256.key', 'tmp-ca.key', 'rpc.key', 'root-ca.crt'].map(modeOf);
  expect(modes).toEqual([0o600, 0o600, 0o600, 0o400, 0o644]);
  told.length = 0;
  await closeSecrets(directory, (...open) => told.push(open));
  expect(told).toEqual([]);
});

test('follows no link, and an absent directory is none', async () => {
  file('elsewhere', 0o644);
  symlinkSync(join(directory, 'elsewhere'), join(directory, 'root-ca.key'));
  await closeSecrets(directory, () => expect.unreachable());
  await closeSecrets(join(directory, 'none'), () => expect.unreachable());
  expect(modeOf('elsewhere')).toBe(0o644);
});
