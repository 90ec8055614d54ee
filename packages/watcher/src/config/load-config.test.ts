import { expect, test } from 'vitest';
import { parseConfig } from './load-config.ts';

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
  ['no TOML', 'rpc_urls = ', /watch\.toml cannot be used/],
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
