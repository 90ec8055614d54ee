/** That every threat named for this service has tests by exactly its name: `npx vitest -t NAME` runs them. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const THREATS = [
  'app-certificate-as-kms',
  'replayed-attestation',
  'temp-ca-without-evidence',
  'stale-chain-view',
  'lying-rpc',
  'frozen-rpc',
  'webhook-hangs',
  'revoked-between-requests',
  'two-instances',
  'no-instance-id',
  'wrong-length-measurement',
  'audit-disk-full',
  'clock-jumps-back',
  'rtmr3-extended-twice',
  'kill-during-bootstrap',
  'kill-during-onboard',
  // What stops or fools the original.
  'signcert-year-10000',
  'auth-answer-multibyte',
  'onboard-relay',
  'bootstrap-file-missing',
  'debug-enclave-unverified-image',
  'empty-vm-config',
  'app-asks-for-root-keys',
  'nitro-claims-other-app',
  'tampered-quote-costs-no-fetch',
  'silent-connection',
  'signcert-kms-domain',
  'duplicate-extension',
];

const root = join(import.meta.dirname, '../../..');
const PLACES = [
  'kms/src/threats',
  'kms/src/onboard',
  'kms/src/key-directory',
  'packages/policy/src/chain',
  'test/e2e',
];
const sources = PLACES.flatMap((place) =>
  readdirSync(join(root, place))
    .filter((name) => name.endsWith('.test.ts') && name !== 'names.test.ts')
    .map((name) => readFileSync(join(root, place, name), 'utf8')),
);

test.each(THREATS)('threat %s has a test', (name) => {
  // As the title of a test, or the first cell of a table of tests.
  const title = new RegExp(`(test|it)\\(\\s*'${name}: |\\[\\s*'${name}',`);
  const found = sources.filter((source) => title.test(source));
  expect(found).not.toEqual([]);
  for (const source of found) expect(source).not.toMatch(new RegExp(`(skip|todo)\\(\\s*'${name}`));
});
