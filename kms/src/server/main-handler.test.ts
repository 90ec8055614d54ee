import { ratlsReportData } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { generateP256Key } from '@dstack-cloud/keys';
import { CONFIRM_WORD, encodeCsrV2, signCsr } from '@dstack-cloud/ra-tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { call } from '../test/ask.ts';
import { type Lab, openLab } from '../test/lab.ts';

let lab: Lab;
beforeAll(async () => {
  lab = await openLab();
});
afterAll(() => lab.close());

test('genuine evidence opens no way around the limit of open methods', async () => {
  const rate_limit = { enabled: true, open_per_minute: 1, open_burst: 3 };
  const { main } = await lab.start({ core: { rate_limit } });
  const client = lab.client(lab.guest());
  const statuses = [];
  for (let i = 0; i < 5; i++) statuses.push((await call(main.port, 'GetMeta', {}, { client })).status);
  expect(statuses).toEqual([200, 200, 200, 429, 429]);
  expect((await call(main.port, 'NoSuchMethod', {}, { client })).status).toBe(429);
  expect((await call(main.port, 'GetAppKey', { api_version: 1 }, { client })).status).toBe(200);
});

test('refused evidence in a request for a certificate counts like any other', async () => {
  const rate_limit = { enabled: true, refused_evidence_per_minute: 1, refused_evidence_burst: 3 };
  const { main } = await lab.start({ core: { rate_limit } });
  const client = lab.client(lab.guest());
  const key = generateP256Key();
  const signCert = (spki: Uint8Array): ReturnType<typeof call> => {
    const csr = encodeCsrV2({
      confirm: CONFIRM_WORD,
      pubkey: key.spki,
      config: {
        subject: 'app.example',
        subjectAltNames: [],
        usageServerAuth: true,
        usageClientAuth: false,
        extQuote: false,
        extAppInfo: false,
      },
      attestation: lab.guest().attest(ratlsReportData(spki)),
    });
    const request = { api_version: 2, csr: toHex(csr), signature: toHex(signCsr(csr, key)) };
    return call(main.port, 'SignCert', request, { client });
  };
  for (let i = 0; i < 5; i++) expect((await signCert(key.spki)).status).toBe(200);
  for (let i = 0; i < 3; i++) expect((await signCert(generateP256Key().spki)).status).toBe(400);
  await expect(signCert(key.spki)).rejects.toThrow();
});
