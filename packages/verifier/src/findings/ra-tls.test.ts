import { dcapCollateralFromJson, replaceRoot, vendorRoots } from '@dstack-cloud/attestation';
import { decodePem, fromHex, utf8 } from '@dstack-cloud/encoding';
import { parseRaTlsCertificate } from '@dstack-cloud/ra-tls';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import { verify } from '../verify.ts';

interface Recorded {
  readonly now: number;
  readonly tdx_root_pem: string;
  readonly clients: readonly { name: string; client_cert_pem: string }[];
  readonly collateral: readonly {
    path: string;
    headers: Readonly<Record<string, string>>;
    body: { hex?: string; utf8?: string };
  }[];
}

const PATH = 'kms-original/full/evidence.json';

describeWithFixtures('RA-TLS certificates of recorded guests', PATH, () => {
  const recorded = fixtureJson<Recorded>(PATH);
  const reportOf = (pem: string) =>
    verify(utf8(pem), {
      roots: replaceRoot(vendorRoots(), 'tdx', decodePem(recorded.tdx_root_pem, 'CERTIFICATE')),
      collateral: { tdx: async () => collateral(recorded) },
      now: recorded.now,
      readRaTls: parseRaTlsCertificate,
    });
  const pemOf = (name: string) => recorded.clients.find((client) => client.name === name)!.client_cert_pem;

  it.each(['app1', 'appready', 'appv2', 'kmsB'])('accepts the certificate of %s', async (name) => {
    const report = await reportOf(pemOf(name));
    expect(report.reason).toBeUndefined();
    expect([report.isValid, report.form, report.simulated]).toEqual([true, 'ra-tls-certificate', true]);
    expect(report.checks.map((check) => check.id)).toContain('ratls.binding');
  });

  it('refuses a guest with a short app id', async () => {
    expect(await reportOf(pemOf('appbadid'))).toMatchObject({ isValid: false, code: 'event-log' });
  });

  it('refuses evidence in a certificate for another key', async () => {
    const other = verify(utf8(pemOf('app1')), {
      roots: replaceRoot(vendorRoots(), 'tdx', decodePem(recorded.tdx_root_pem, 'CERTIFICATE')),
      collateral: { tdx: async () => collateral(recorded) },
      now: recorded.now,
      readRaTls: (der) => ({ ...parseRaTlsCertificate(der), spki: fromHex('00') }),
    });
    expect((await other).checks.at(-1)).toMatchObject({ id: 'ratls.binding', ok: false });
  });
});

/** The four recorded answers of the collateral service as one set. */
function collateral({ collateral: answers }: Recorded) {
  const answer = (part: string) => answers.find(({ path }) => path.includes(part))!;
  const chain = (part: string) =>
    decodeURIComponent(
      Object.entries(answer(part).headers).find(([name]) => name.endsWith('issuer-chain'))![1],
    );
  const signed = (part: string, member: string) => {
    const text = answer(part).body.utf8!;
    const start = text.indexOf(`"${member}":`) + member.length + 3;
    return {
      text: text.slice(start, text.lastIndexOf(',"signature"')),
      signature: (JSON.parse(text) as { signature: string }).signature,
    };
  };
  const tcb = signed('/tcb', 'tcbInfo');
  const qe = signed('/qe/identity', 'enclaveIdentity');
  const rootCrl = answer('rootcacrl').body;
  return dcapCollateralFromJson({
    pck_crl_issuer_chain: chain('/pckcrl'),
    pck_crl: answer('/pckcrl').body.hex,
    root_ca_crl: rootCrl.utf8?.trim() ?? rootCrl.hex,
    tcb_info_issuer_chain: chain('/tcb'),
    tcb_info: tcb.text,
    tcb_info_signature: tcb.signature,
    qe_identity_issuer_chain: chain('/qe/identity'),
    qe_identity: qe.text,
    qe_identity_signature: qe.signature,
  });
}
