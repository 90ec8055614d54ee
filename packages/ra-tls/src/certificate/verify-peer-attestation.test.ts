import { staticCollateral, vendorRoots, withTdxRoot } from '@dstack-cloud/attestation';
import { decodePem, fromHex, utf8Text } from '@dstack-cloud/encoding';
import { generateP256Key } from '@dstack-cloud/keys';
import { describeWithFixtures, fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import { describe, expect, it } from 'vitest';
import { attestationFor } from '../testing/samples.ts';
import { parseRaTlsCertificate } from './parse-ra-tls-certificate.ts';
import { type PeerVerifyOptions, verifyPeerAttestation } from './verify-peer-attestation.ts';

/** A source that must not be asked. */
const collateral = { tdx: () => Promise.reject(new Error('asked for collateral')) };
const code = (expected: string): unknown => expect.objectContaining({ code: expected });

describe('evidence of a peer', () => {
  const options: PeerVerifyOptions = { roots: vendorRoots(), collateral, now: 1_795_431_600 };
  const key = generateP256Key();

  it('must be there', async () => {
    await expect(verifyPeerAttestation({ spki: key.spki }, options)).rejects.toThrow(
      'No attestation provided',
    );
  });

  it('must name the key of the certificate; that is found out without network', async () => {
    const peer = { spki: key.spki, attestation: attestationFor(generateP256Key()) };
    const refused = verifyPeerAttestation(peer, options);
    await expect(refused).rejects.toEqual(code('report-data-mismatch'));
    await expect(refused).rejects.toThrow('invalid quote: report data mismatch');
    await expect(verifyPeerAttestation(peer, options, 'Quote verification failed')).rejects.toThrow(
      'Quote verification failed: report data mismatch',
    );
  });

  it('must be genuine', async () => {
    const peer = { spki: key.spki, attestation: attestationFor(key) };
    const refused = verifyPeerAttestation(peer, options);
    await expect(refused).rejects.toEqual(code('attestation-refused'));
    await expect(refused).rejects.toThrow(/^invalid quote: /);
  });
});

describeWithFixtures('evidence of the recorded client', 'kms-original/client-app.json', () => {
  const client = parseRaTlsCertificate(
    fromHex(fixtureJson<{ cert_der: string }>('kms-original/client-app.json').cert_der),
  );
  const testRoot = decodePem(fixtureText('kms-original/tdx-test-root.pem'), 'CERTIFICATE');
  // The root's list was recorded as the service sends it: hex text; the file holds that text in hex again.
  const recorded = fixtureJson<Record<string, string>>('kms-original/collateral.json');
  const options: PeerVerifyOptions = {
    roots: withTdxRoot(vendorRoots(), testRoot),
    collateral: staticCollateral({ ...recorded, root_ca_crl: utf8Text(fromHex(recorded['root_ca_crl']!)) }),
    now: 1_795_431_600,
  };

  it('is accepted under its test root, and called simulated', async () => {
    const verified = await verifyPeerAttestation(client, options);
    expect(verified.mode).toBe('dstack-tdx');
    expect(verified.simulated).toBe(true);
  });

  it("is refused under the vendors' roots", async () => {
    await expect(verifyPeerAttestation(client, { ...options, roots: vendorRoots() })).rejects.toEqual(
      code('attestation-refused'),
    );
  });

  it('is refused when the collateral has expired', async () => {
    const late = { ...options, now: options.now + 86_400 * 365 };
    await expect(verifyPeerAttestation(client, late)).rejects.toEqual(code('attestation-refused'));
  });
});
