import { existsSync, readFileSync } from 'node:fs';
import { decodePemAll } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import { describe, expect, it } from 'vitest';
import { nodeCrypto } from '../crypto/node-crypto.ts';
import { VerificationCache } from '../crypto/verification-cache.ts';
import { AttestationError } from '../errors.ts';
import type { TrustRoot } from '../roots/trust-roots.ts';
import { parseCertificate } from './certificate.ts';
import { parseCrl } from './crl.ts';
import { validatePath } from './validate-path.ts';

interface LimboCase {
  readonly id: string;
  readonly trusted_certs: string[];
  readonly untrusted_intermediates: string[];
  readonly peer_certificate: string;
  readonly validation_time: string | null;
  readonly validation_kind: 'SERVER' | 'CLIENT';
  readonly expected_result: 'SUCCESS' | 'FAILURE';
  readonly extended_key_usage: string[];
  readonly key_usage: string[];
  readonly crls: string[];
}

/** Each line: id, tab, reason why our verdict is another one on purpose. */
const expectations = new URL('../../test/expectations/x509-limbo.txt', import.meta.url);
const REASONS = new Map(
  (existsSync(expectations) ? readFileSync(expectations, 'utf8') : '')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split('\t') as [string, string]),
);

const USAGES: Readonly<Record<string, string>> = {
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
};
/** The suite's cases without a time were made to hold now; this is a day in all of them. */
const DEFAULT_TIME = '2026-06-01T00:00:00Z';

describeWithFixtures('x509-limbo', 'x509-limbo/limbo.json', () => {
  const { testcases } = fixtureJson<{ testcases: LimboCase[] }>('x509-limbo/limbo.json');

  it.each(testcases)('$id', async (item) => {
    const refusal = await judge(item);
    const verdict = refusal ? 'FAILURE' : 'SUCCESS';
    const differs = REASONS.has(item.id);
    expect({ verdict, differs, why: refusal?.message }).toEqual({
      verdict: differs ? opposite(item.expected_result) : item.expected_result,
      differs,
      why: refusal?.message,
    });
  });

  it('has no expectation for a case that is not there', () => {
    const known = new Set(testcases.map((item) => item.id));
    expect([...REASONS.keys()].filter((id) => !known.has(id))).toEqual([]);
  });
});

describe('x509-limbo expectations', () => {
  it('each give a reason', () => {
    for (const [id, reason] of REASONS) expect([id, (reason ?? '').length > 10]).toEqual([id, true]);
  });
});

async function judge(item: LimboCase): Promise<AttestationError | undefined> {
  try {
    const anchors = ders(item.trusted_certs).map(
      (der): TrustRoot => ({ name: 'limbo', der, simulated: true }),
    );
    const usages = item.extended_key_usage.length > 0 ? item.extended_key_usage : kindUsage(item);
    await validatePath(
      parseCertificate(ders([item.peer_certificate])[0]!),
      ders(item.untrusted_intermediates).map(parseCertificate),
      {
        anchors,
        now: Date.parse(item.validation_time ?? DEFAULT_TIME) / 1000,
        revocation: item.crls.length > 0 ? 'required' : 'none',
        crls: item.crls.flatMap((pem) => decodePemAll(pem, 'X509 CRL')).map(parseCrl),
        extendedKeyUsage: usages.map((usage) => USAGES[usage]!),
        requireDigitalSignature: item.key_usage.includes('digitalSignature'),
      },
      nodeCrypto,
      new VerificationCache(),
    );
    return undefined;
  } catch (error) {
    if (error instanceof AttestationError) return error;
    throw error;
  }
}

function kindUsage(item: LimboCase): string[] {
  return [item.validation_kind === 'CLIENT' ? 'clientAuth' : 'serverAuth'];
}

function ders(pems: readonly string[]): Uint8Array[] {
  return pems.flatMap((pem) => decodePemAll(pem, 'CERTIFICATE'));
}

function opposite(result: 'SUCCESS' | 'FAILURE'): 'SUCCESS' | 'FAILURE' {
  return result === 'SUCCESS' ? 'FAILURE' : 'SUCCESS';
}
