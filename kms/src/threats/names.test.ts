/**
 * That every threat named for this service has tests by exactly its name: `npm run e2e -- NAME` runs it on the built
 * programs, `npx vitest run -t NAME` the smaller ones beside the source too.
 */
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
const END_TO_END = 'test/e2e';
const PLACES = ['kms/src/threats', 'kms/src/onboard', 'kms/src/key-directory', 'packages/policy/src/chain'];

const sourcesIn = (place: string): string[] =>
  readdirSync(join(root, place))
    .filter((name) => name.endsWith('.test.ts') && name !== 'names.test.ts')
    .map((name) => readFileSync(join(root, place, name), 'utf8'));
const endToEnd = sourcesIn(END_TO_END);
const others = PLACES.flatMap(sourcesIn);

test.each(THREATS)('threat %s has an end-to-end test, and none of its tests is skipped', (name) => {
  // As the title of a test, which may need a privilege, or the first cell of a table of tests.
  const title = new RegExp(`(test|it)(\\.skipIf\\([^)]*\\))?\\(\\s*'${name}: |\\[\\s*'${name}',`);
  expect(endToEnd.filter((source) => title.test(source))).not.toEqual([]);
  for (const source of [...endToEnd, ...others]) {
    expect(source).not.toMatch(new RegExp(`(skip|todo)\\(\\s*'${name}`));
  }
});
