import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeRotatedDirectory } from '../test/rotated-directory.ts';
import { loadKeys } from './load-keys.ts';

const NOW = 1_795_000_000;

let directory: string;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'load-keys-'));
  await writeRotatedDirectory(directory, 0, NOW);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const withDomain = (text: string) => {
  writeFileSync(join(directory, 'rpc-domain'), text);
  return loadKeys(directory, { now: NOW });
};

test.each(['kms.example.com', 'kms.example.com\n', '10.0.0.1', '::1', 'old_kms'])(
  'rpc-domain may be %j',
  async (text) => {
    expect((await withDomain(text)).domain).toBe(text.trim());
  },
);

test.each([
  ['a b', /contains an invalid DNS label|must be a non-empty ASCII DNS name/],
  ['kms.example.com.', /contains an invalid DNS label/],
  ['kms.example.com\nother.example.com', /must be a non-empty ASCII DNS name/],
  ['https://kms.example.com', /contains an invalid DNS label/],
  ['fe80::1%eth0', /contains an invalid DNS label/],
  ['é.example', /must be a non-empty ASCII DNS name/],
  ['x'.repeat(5000), /must be a non-empty ASCII DNS name/],
])('a KMS does not start with rpc-domain %j', async (text, problem) => {
  const error = await withDomain(text).then(
    () => undefined,
    (thrown: Error & { code: string }) => thrown,
  );
  expect(error?.code).toBe('keys-damaged');
  expect(error?.message).toContain(join(directory, 'rpc-domain'));
  expect(error?.message).toMatch(problem);
  expect(error?.message.length).toBeLessThan(500);
});
