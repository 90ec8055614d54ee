import { chmodSync, linkSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { loadConfig, parseConfig } from './load-config.ts';
import { readSecret } from './read-secret.ts';

const folder = mkdtempSync(join(tmpdir(), 'watch-config-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const KMS = `0x${'11'.repeat(20)}`;
const BASE = `rpc_urls = ["http://127.0.0.1:8545"]\nkms_contract = "${KMS}"\n`;

test.each([
  ['no endpoint', `kms_contract = "${KMS}"`, /rpc_urls: needs at least one/],
  ['no contract', 'rpc_urls = ["http://127.0.0.1:1"]', /kms_contract: needs the address/],
  ['a key with a typing error', `${BASE}rpc_url = "x"`, /rpc_url: unknown key; did you mean "rpc_urls"\?/],
  ['a quorum that cannot be', `${BASE}quorum = 2`, /quorum: is 2, and there are 1/],
  ['a webhook without secret', `${BASE}[webhook]\nurl = "https://hook.example"`, /belong together/],
  [
    'a webhook that anybody can read',
    `${BASE}[webhook]\nurl = "http://hook.example/key"\nsecret_file = "x"`,
    /webhook\.url: http:\/\/hook\.example is plain HTTP; use https/,
  ],
  ['a name to listen on', `${BASE}[metrics]\naddress = "example.com"`, /metrics\.address: must be an IP/],
  ['no TOML', 'rpc_urls = ', /watch\.toml cannot be used:\n {2}line 1, column \d+: /],
  ['a value of another type', `${BASE}poll_seconds = "1"`, /watch\.toml cannot be used:\n {2}poll_seconds: /],
  ['a value in a table', `${BASE}[alerts]\nqueue_depth = -1`, /\n {2}alerts\.queue_depth: /],
  ['a value in a list', `${BASE}apps = ["0x1"]`, /\n {2}apps\.0: must be an address/],
  [
    'a transaction service that anybody can read',
    `${BASE}[safe_service]\nurl = "http://safe.example/api"`,
    /safe_service\.url: http:\/\/safe\.example is plain HTTP; use https/,
  ],
  [
    'a key for no service',
    `${BASE}[safe_service]\napi_key_file = "x"`,
    /safe_service\.api_key_file: belongs to a url/,
  ],
])('refuses %s', (_, text, message) => {
  expect(() => parseConfig(text, 'watch.toml')).toThrow(
    expect.objectContaining({ code: 'bad-configuration', message: expect.stringMatching(message) }),
  );
});

test('no part of a URL that may be a key is shown', () => {
  const text = `${BASE}[webhook]\nurl = "http://user:hunter2@hook.example/hunter2"\nsecret_file = "x"`;
  expect(() => parseConfig(text, 'watch.toml')).toThrow(
    expect.objectContaining({ message: expect.not.stringContaining('hunter2') }),
  );
});

test('a file that is not there, or is none, is named in one sentence', async () => {
  const absent = join(folder, 'absent.toml');
  await expect(loadConfig(absent)).rejects.toMatchObject({
    code: 'bad-configuration',
    message: `Configuration ${absent} does not exist`,
  });
  await expect(loadConfig(folder)).rejects.toMatchObject({
    message: expect.stringMatching(`^Configuration ${folder} [^:]*$`) as string,
  });
  const file = join(folder, 'binary.toml');
  writeFileSync(file, Buffer.from([0xff, 0xfe]));
  await expect(loadConfig(file)).rejects.toMatchObject({
    message: `${file} cannot be used:\n  it is no UTF-8`,
  });
});

test('paths are relative to the folder of the file', async () => {
  const file = join(folder, 'watch.toml');
  writeFileSync(file, `${BASE}[safe_service]\nurl = "https://safe.example/api"\napi_key_file = "key"\n`);
  const { state_path, safe_service } = await loadConfig(file);
  expect([state_path, safe_service.api_key_file]).toEqual([join(folder, 'watch-state'), join(folder, 'key')]);
});

test('a secret that cannot be used names its key and its file', () => {
  const file = join(folder, 'secret');
  const refused = (path: string, message: RegExp): void =>
    expect(() => readSecret('webhook.secret_file', path)).toThrow(
      expect.objectContaining({ code: 'bad-configuration', message: expect.stringMatching(message) }),
    );
  refused(file, /^webhook\.secret_file: \S+\/secret does not exist$/);
  writeFileSync(file, 'x'.repeat(20));
  chmodSync(file, 0o644);
  refused(file, /^webhook\.secret_file: \S+\/secret can be read by others$/);
  chmodSync(file, 0o600);
  expect(readSecret('webhook.secret_file', file)).toBe('x'.repeat(20));
  symlinkSync(file, join(folder, 'link'));
  refused(join(folder, 'link'), /^webhook\.secret_file: \S+\/link is no regular file$/);
  writeFileSync(file, 'short');
  refused(file, /^webhook\.secret_file: \S+\/secret holds no usable secret$/);
  writeFileSync(file, 'x'.repeat(5_000));
  refused(file, /holds no usable secret$/);
  linkSync(file, join(folder, 'second'));
  refused(file, /^webhook\.secret_file: \S+\/secret has another name too$/);
});
