import { decodePem, encodePem, fromHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import { describe, expect, it } from 'vitest';
import type { Attestation } from '../attestation.ts';
import { decodeAttestation } from '../codec/decode-attestation.ts';
import type { Fetch } from '../collateral/bounded-fetch.ts';
import { googleTpmCollateral } from './google-collateral.ts';
import { isGoogleCaUrl } from './google-hosts.ts';

const HOST = 'privateca-content-62d71773-0000-21da-852e-f4f5e80d7778.storage.googleapis.com';

describe('addresses that certificates may name', () => {
  it.each([
    [`http://${HOST}/032bf9d39db4fa06aade/ca.crt`, true],
    [`https://${HOST}/032bf9d39db4fa06aade/crl.crl`, true],
    [`http://${HOST}.evil.example/032bf9d39db4fa06aade/ca.crt`, false],
    [`http://evil.example/${HOST}/ca.crt`, false],
    [`http://user@${HOST}/a/ca.crt`, false],
    [`http://${HOST}:8080/a/ca.crt`, false],
    [`http://${HOST}/a/ca.crt?x=1`, false],
    [`http://${HOST}/a/%2e%2e/ca.crt`, false],
    [`http://${HOST}/`, false],
    [`ftp://${HOST}/a/ca.crt`, false],
    ['http://169.254.169.254/computeMetadata/v1/a.crt', false],
    ['http://storage.googleapis.com/privateca-content-1/a/ca.crt', false],
    ['no address', false],
  ])('%s: %s', (url, allowed) => {
    expect(isGoogleCaUrl(url, [])).toBe(allowed);
  });

  it('allows the host of a test root only when it is named', () => {
    expect(isGoogleCaUrl('http://127.0.0.1:18188/tpm/aia/root.pem', ['127.0.0.1:18188'])).toBe(true);
    expect(isGoogleCaUrl('http://127.0.0.1:18189/tpm/aia/root.pem', ['127.0.0.1:18188'])).toBe(false);
  });
});

describeWithFixtures('collateral of a mock AK', 'mock-evidence/set-a/collateral/tpm-base.json', () => {
  const base = fixtureJson<{ cert_chain_pem: string; crls: [string]; root_ca_crl: string }>(
    'mock-evidence/set-a/collateral/tpm-base.json',
  );
  const { quote } = decodeAttestation(fixture('mock-evidence/set-a/evidence/gcp-good.v0.bin'));
  const { akCert } = (quote as Extract<Attestation['quote'], { mode: 'dstack-gcp-tdx' }>).tpmQuote;
  const answers: Record<string, Uint8Array> = {
    '/tpm/aia/intermediate.der': decodePem(base.cert_chain_pem, 'CERTIFICATE'),
    '/tpm/aia/root.pem': decodePem(fixtureText('mock-evidence/set-a/roots/tpm-root-ca.pem'), 'CERTIFICATE'),
    '/tpm/crl/intermediate.crl': fromHex(base.crls[0]),
    '/tpm/crl/root.crl': fromHex(base.root_ca_crl),
  };

  function server(): { asked: string[]; fetch: Fetch } {
    const asked: string[] = [];
    return {
      asked,
      fetch: async (url) => {
        const { pathname } = new URL(url);
        asked.push(pathname);
        const body = answers[pathname];
        return body ? new Response(new Uint8Array(body)) : new Response('', { status: 404 });
      },
    };
  }

  it('follows issuers to the root, fetches each list, and asks once', async () => {
    const { asked, fetch } = server();
    const source = googleTpmCollateral({ fetch, extraHosts: ['127.0.0.1:18188'], now: () => 1781524800 });
    const collateral = await source.tpm({ akCert });
    expect(collateral.certChainPem).toContain(
      encodePem('CERTIFICATE', answers['/tpm/aia/intermediate.der']!),
    );
    expect(collateral.crls.length).toBeGreaterThanOrEqual(2);
    const first = asked.length;
    await source.settled(collateral, true);
    await source.tpm({ akCert });
    expect(asked.length).toBe(first);
  });

  it('asks nobody when the host is not allowed', async () => {
    const { asked, fetch } = server();
    await expect(googleTpmCollateral({ fetch }).tpm({ akCert })).rejects.toMatchObject({
      code: 'chain-invalid',
    });
    expect(asked).toEqual([]);
  });

  it('says that collateral is unavailable when a list is not served', async () => {
    const { fetch } = server();
    const broken: Fetch = (url, init) =>
      url.endsWith('.crl') ? Promise.resolve(new Response('', { status: 500 })) : fetch(url, init);
    const source = googleTpmCollateral({ fetch: broken, extraHosts: ['127.0.0.1:18188'] });
    await expect(source.tpm({ akCert })).rejects.toMatchObject({ code: 'collateral-unavailable' });
  });
});
