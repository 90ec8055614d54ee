/** The npm port of dcap-qvl, written by others, must judge our quotes as our own verifier does. */

import { X509Certificate } from 'node:crypto';
import { createRequire } from 'node:module';
import { dcapCollateralToJson } from '@dstack-cloud/attestation';
import { describe, expect, test } from 'vitest';
import { createPlatform } from '../platform.ts';
import type { CollateralOptions } from './collateral.ts';
import type { QuoteOptions } from './quote.ts';

interface QuoteVerifier {
  verify(quote: Buffer, collateral: object, now: number): { status: string; advisory_ids: string[] };
}
interface Peer {
  QuoteVerifier: { newWithRootCa(root: Buffer): QuoteVerifier };
}
const require = createRequire(import.meta.url);
const { QuoteVerifier } = require('@phala/dcap-qvl/src/verify.js') as Peer;

const NOW = 1_795_000_000;
const platform = createPlatform(new Uint8Array(32).fill(1), { machine: 'peer' });
const register = new Uint8Array(48).fill(5);
const td = { mrTd: register, rtmrs: [register, register, register, register] as const };

function judge(options: QuoteOptions, fault: CollateralOptions = {}): string {
  const quote = platform.quote(new Uint8Array(64), td, options);
  const collateral = dcapCollateralToJson(platform.collateral(NOW, fault));
  const verifier = QuoteVerifier.newWithRootCa(Buffer.from(platform.rootDer));
  return verifier.verify(Buffer.from(quote), collateral, NOW).status;
}

describe.each<QuoteOptions>([{ version: 4 }, { version: 5 }, { version: 5, body: '1.0' }])(
  'a quote %o, judged by another verifier',
  (options) => {
    test('is good', () => expect(judge(options)).toBe('UpToDate'));
    test('of an old platform is out of date', () => {
      expect(judge(options, { tcbStatus: 'OutOfDate' })).toBe('OutOfDate');
    });
    test('under expired collateral is refused', () => {
      expect(() => judge(options, { expired: true })).toThrow(/expired/);
    });
    test('of a revoked machine is refused', () => {
      expect(() => judge(options, { revokePck: true })).toThrow(/revoked/);
    });
  },
);

test('OpenSSL agrees about the chain', () => {
  const [pck, ca, root] = platform.pckChainPem
    .split(/(?<=-----END CERTIFICATE-----\n)/)
    .map((pem) => new X509Certificate(pem)) as [X509Certificate, X509Certificate, X509Certificate];
  expect([pck.checkIssued(ca), ca.checkIssued(root), root.checkIssued(root)]).toEqual([true, true, true]);
  expect([pck.verify(ca.publicKey), ca.verify(root.publicKey), root.verify(root.publicKey)]).toEqual([
    true,
    true,
    true,
  ]);
  expect([pck.ca, ca.ca, root.ca]).toEqual([false, true, true]);
  expect(root.subject).toContain('Simulated');
});
