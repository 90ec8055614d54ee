import { expect, test } from 'vitest';
import { refusalHint } from './refusal-hint.ts';

test.each([
  ['KMS self authorization failed: KMS is not allowed: on-chain state is stale', /could not decide/],
  ['invalid quote: nitro enclave is in debug mode', /without --debug-mode/],
  ['invalid quote: the document is stale', /too old for the KMS/],
  ['invalid quote: the nonce was not made by this KMS', /does not answer the nonce/],
  ['App not allowed: Boot denied: Compose hash not allowed', /this image is not registered/],
  ['App not allowed: Boot denied: OS image is not allowed', /this image is not registered/],
  ['App not allowed: Boot denied: App not registered', /the application is not registered/],
])('%s', (message, hint) => {
  expect(refusalHint(message)).toMatch(hint);
});

test('another refusal says all itself', () => {
  expect(refusalHint('something else')).toBeUndefined();
});
