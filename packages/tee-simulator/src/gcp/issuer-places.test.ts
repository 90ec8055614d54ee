import { addRoot, vendorCollateral, vendorRoots } from '@dstack-cloud/attestation';
import { expect, test } from 'vitest';
import { issueCertificate } from '../pki/certificate.ts';
import { seededKey } from '../pki/seeded-key.ts';
import { createGcp } from './gcp-platform.ts';
import { issuerPlaces } from './issuer-places.ts';

const SEED = new Uint8Array(32).fill(6);
const HOST = 'http://127.0.0.1:4000';
const GUESTS_VIEW = 'http://10.0.2.2:4000';
const gcp = createGcp(SEED);
const simulated = addRoot(vendorRoots(), 'gcp_tpm', gcp.rootDer);
const issuer = { name: 'Issuer', key: seededKey(SEED, 'issuer') };
const akCert = issueCertificate({
  subject: { name: 'ak', spki: seededKey(SEED, 'ak').spki },
  issuer,
  serial: Uint8Array.of(1),
  notBefore: 1_600_000_000,
  notAfter: 1_900_000_000,
  extensions: issuerPlaces(HOST),
});

/** What is asked when the issuer of this key is wanted. */
async function asked(roots: typeof simulated, pccs: string | undefined): Promise<string[]> {
  const urls: string[] = [];
  const fetch = async (url: string): Promise<Response> => {
    urls.push(url);
    return new Response(null, { status: 404 });
  };
  await vendorCollateral({ roots, pccs, fetch })
    .tpm?.({ akCert })
    .catch(() => undefined);
  return urls;
}

test('the issuer of a simulated vTPM’s key is asked for at the collateral service, by a guest at its address of it', async () => {
  expect(await asked(simulated, undefined)).toEqual([`${HOST}/gcp/intermediate.crt`]);
  expect(await asked(simulated, HOST)).toEqual([`${HOST}/gcp/intermediate.crt`]);
  expect(await asked(simulated, GUESTS_VIEW)).toEqual([`${GUESTS_VIEW}/gcp/intermediate.crt`]);
});

test('a certificate that points to this machine is followed under no vendor’s root', async () => {
  expect(await asked(vendorRoots(), HOST)).toEqual([]);
  expect(await asked(vendorRoots(), GUESTS_VIEW)).toEqual([]);
});
