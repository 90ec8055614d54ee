import { encodePem, fromHex } from '@dstack-cloud/encoding';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { forgeTable, type Row } from './forge-table.ts';
import {
  type CertificatePlan,
  commonName,
  OID,
  setCa,
  setExtension,
  setPurpose,
  setUsage,
  USAGE,
  writeCertificate,
} from './forged-certificate.ts';
import { sealTdx, type TdxDraft, tdxDraft } from './tdx-forge.ts';

type TdxRow = Row<TdxDraft>;
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';

/** A PCK chain as collateral carries it. */
function chainText(d: TdxDraft, pck: CertificatePlan = d.certificates.pck): string {
  return [pck, d.certificates.pckCa, d.certificates.root]
    .map((plan) => encodePem('CERTIFICATE', writeCertificate(plan)))
    .join('');
}
const CHAINS: readonly TdxRow[] = [
  [
    'TCB signer under another root key',
    (d) => {
      d.certificates.tcb.signer = d.keys('other');
    },
    'signature-invalid tdx.tcb-info-chain',
  ],
  [
    'TCB signer for client authentication only',
    (d) => setPurpose(d.certificates.tcb, CLIENT_AUTH),
    'chain-invalid tdx.tcb-info-chain',
  ],
  ['TCB signer for both', (d) => setPurpose(d.certificates.tcb, CLIENT_AUTH, SERVER_AUTH), 'good UpToDate'],
  [
    'TCB signer without extended key usage',
    (d) => setExtension(d.certificates.tcb, OID.extendedKeyUsage),
    'good UpToDate',
  ],
  [
    'QE signer for client authentication only',
    (d) => setPurpose(d.certificates.qe, CLIENT_AUTH),
    'chain-invalid tdx.qe-identity-chain',
  ],
  [
    'PCK for client authentication only',
    (d) => setPurpose(d.certificates.pck, CLIENT_AUTH),
    'chain-invalid tdx.pck-chain',
  ],
  ['TCB signer is a CA', (d) => setCa(d.certificates.tcb, true), 'chain-invalid tdx.tcb-info-chain'],
  ['QE signer is a CA', (d) => setCa(d.certificates.qe, true), 'chain-invalid tdx.qe-identity-chain'],
  ['PCK is a CA', (d) => setCa(d.certificates.pck, true), 'chain-invalid tdx.pck-path'],
  ['PCK may not sign', (d) => setUsage(d.certificates.pck, USAGE.encipher), 'chain-invalid tdx.pck-chain'],
  [
    'TCB signer may not sign',
    (d) => setUsage(d.certificates.tcb, USAGE.encipher),
    'chain-invalid tdx.tcb-info-chain',
  ],
  [
    'QE signer may not sign',
    (d) => setUsage(d.certificates.qe, USAGE.encipher),
    'chain-invalid tdx.qe-identity-chain',
  ],
  [
    'PCK CA without keyCertSign',
    (d) => setUsage(d.certificates.pckCa, USAGE.sign | USAGE.lists),
    'chain-invalid tdx.pck-path',
  ],
  [
    'PCK CA without cRLSign',
    (d) => setUsage(d.certificates.pckCa, USAGE.sign | USAGE.certificates),
    'chain-invalid tdx.pck-chain',
  ],
  [
    'PCK CA without key usage',
    (d) => setExtension(d.certificates.pckCa, OID.keyUsage),
    'chain-invalid tdx.pck-path',
  ],
  [
    'PCK CA without basic constraints',
    (d) => setExtension(d.certificates.pckCa, OID.basicConstraints),
    'chain-invalid tdx.pck-path',
  ],
  ['PCK CA with path length 0', (d) => setCa(d.certificates.pckCa, true, 0), 'good UpToDate'],
  ['root with path length 0', (d) => setCa(d.certificates.root, true, 0), 'chain-invalid tdx.pck-path'],
  [
    'PCK expired by a second',
    (d) => {
      d.certificates.pck.notAfter = d.now - 1;
    },
    'expired tdx.pck-path',
  ],
  [
    'PCK in its last second',
    (d) => {
      d.certificates.pck.notAfter = d.now;
    },
    'good UpToDate',
  ],
  [
    'PCK not yet valid',
    (d) => {
      d.certificates.pck.notBefore = d.now + 1;
    },
    'not-yet-valid tdx.pck-path',
  ],
  [
    'PCK CA expired',
    (d) => {
      d.certificates.pckCa.notAfter = d.now - 1;
    },
    'expired tdx.pck-path',
  ],
  [
    'PCK CA not yet valid',
    (d) => {
      d.certificates.pckCa.notBefore = d.now + 1;
    },
    'not-yet-valid tdx.pck-path',
  ],
  [
    'QE signer expired',
    (d) => {
      d.certificates.qe.notAfter = d.now - 1;
    },
    'expired tdx.qe-identity-chain',
  ],
  [
    'TCB signer not yet valid',
    (d) => {
      d.certificates.tcb.notBefore = d.now + 1;
    },
    'not-yet-valid tdx.tcb-info-chain',
  ],
  [
    'QE signer not yet valid',
    (d) => {
      d.certificates.qe.notBefore = d.now + 1;
    },
    'not-yet-valid tdx.qe-identity-chain',
  ],
  [
    'root expired',
    (d) => {
      d.certificates.root.notAfter = d.now - 1;
    },
    'expired tdx.pck-path',
  ],
  [
    'root not yet valid',
    (d) => {
      d.certificates.root.notBefore = d.now + 1;
    },
    'not-yet-valid tdx.pck-path',
  ],
  [
    'PCK issued by another name',
    (d) => {
      d.certificates.pck.issuer = commonName('Mock Intel SGX PCK Processor CA');
    },
    'chain-invalid tdx.pck-path',
  ],
  [
    'PCK CA of another name',
    (d) => {
      d.certificates.pckCa.subject = commonName('Other');
    },
    'chain-invalid tdx.pck-path',
  ],
  [
    'PCK signed by another key',
    (d) => {
      d.certificates.pck.signer = d.keys('other');
    },
    'signature-invalid tdx.pck-path',
  ],
  [
    'PCK CA signed by another key',
    (d) => {
      d.certificates.pckCa.signer = d.keys('other');
    },
    'signature-invalid tdx.pck-path',
  ],
  [
    'PCK with an unknown critical extension',
    (d) => setExtension(d.certificates.pck, '1.2.3.4', fromHex('0500')),
    'unsupported tdx.pck-path',
  ],
  [
    'PCK CA with an unknown critical extension',
    (d) => setExtension(d.certificates.pckCa, '1.2.3.4', fromHex('0500')),
    'unsupported tdx.pck-path',
  ],
  [
    'PCK CA with name constraints',
    (d) => setExtension(d.certificates.pckCa, OID.nameConstraints, fromHex('3000'), false),
    'unsupported tdx.pck-path',
  ],
  [
    'PCK without SGX extension',
    (d) => setExtension(d.certificates.pck, '1.2.840.113741.1.13.1'),
    'malformed tdx.pck-path',
  ],
  [
    'PCK key of P-384',
    (d) => {
      d.certificates.pck.spki = d.keys('nsm-leaf').spki;
    },
    'unsupported tdx.pck-extension',
  ],
  [
    'chain beside the quote, the same',
    (d) => {
      d.alterCollateral = (c) => ({ ...c, pck_certificate_chain: chainText(d) });
    },
    'good UpToDate',
  ],
  [
    'chain beside the quote, of another PCK key',
    (d) => {
      const other = { ...d.certificates.pck, spki: d.keys('other').spki };
      d.alterCollateral = (c) => ({ ...c, pck_certificate_chain: chainText(d, other) });
    },
    'signature-invalid tdx.qe-report-signature',
  ],
  [
    'chain beside the quote, PCK by another key',
    (d) => {
      const other = { ...d.certificates.pck, signer: d.keys('other') };
      d.alterCollateral = (c) => ({ ...c, pck_certificate_chain: chainText(d, other) });
    },
    'signature-invalid tdx.pck-chain',
  ],
  [
    'chain in another order',
    (d) => {
      d.pckChain = ['pck', 'root', 'pckCa'];
    },
    'good UpToDate',
  ],
  [
    'chain without root',
    (d) => {
      d.pckChain = ['pck', 'pckCa'];
    },
    'good UpToDate',
  ],
  [
    'chain without CA',
    (d) => {
      d.pckChain = ['pck', 'root'];
    },
    'chain-invalid tdx.pck-path',
  ],
  [
    'chain that starts with the CA',
    (d) => {
      d.pckChain = ['pckCa', 'pck', 'root'];
    },
    'chain-invalid tdx.pck-path',
  ],
  [
    'TCB signer as PCK',
    (d) => {
      d.pckChain = ['tcb', 'root'];
    },
    'chain-invalid tdx.pck-path',
  ],
];

const CRLS: readonly TdxRow[] = [
  [
    'root list from the future',
    (d) => {
      d.crls.root.thisUpdate = d.now + 1;
    },
    'not-yet-valid tdx.root-crl',
  ],
  [
    'root list of this second',
    (d) => {
      d.crls.root.thisUpdate = d.now;
    },
    'good UpToDate',
  ],
  [
    'root list at nextUpdate',
    (d) => {
      d.crls.root.nextUpdate = d.now;
    },
    'expired tdx.root-crl',
  ],
  [
    'root list in its last second',
    (d) => {
      d.crls.root.nextUpdate = d.now + 1;
    },
    'good UpToDate',
  ],
  [
    'root list of another issuer',
    (d) => {
      d.crls.root.issuer = commonName('Other');
    },
    'revocation-unknown tdx.root-crl',
  ],
  [
    'root list by another key',
    (d) => {
      d.crls.root.signer = d.keys('other');
    },
    'signature-invalid tdx.root-crl',
  ],
  [
    'root list names the root',
    (d) => {
      d.certificates.root.serial = Uint8Array.of(77);
      d.crls.root.serials = [Uint8Array.of(77)];
    },
    'revoked tdx.root-crl',
  ],
  [
    'root list names the QE signer',
    (d) => {
      d.certificates.qe.serial = Uint8Array.of(78);
      d.crls.root.serials = [Uint8Array.of(1), Uint8Array.of(78)];
    },
    'revoked tdx.qe-identity-chain',
  ],
  [
    'PCK list from the future',
    (d) => {
      d.crls.pck.thisUpdate = d.now + 1;
    },
    'not-yet-valid tdx.pck-chain',
  ],
  [
    'PCK list of this second',
    (d) => {
      d.crls.pck.thisUpdate = d.now;
    },
    'good UpToDate',
  ],
  [
    'PCK list at nextUpdate',
    (d) => {
      d.crls.pck.nextUpdate = d.now;
    },
    'expired tdx.pck-chain',
  ],
  [
    'PCK list of another issuer',
    (d) => {
      d.crls.pck.issuer = commonName('Mock Intel SGX PCK Processor CA');
    },
    'revocation-unknown tdx.pck-chain',
  ],
  [
    'PCK list by the root key',
    (d) => {
      d.crls.pck.signer = d.keys('tdx-root');
    },
    'signature-invalid tdx.pck-chain',
  ],
  [
    'PCK list by the root in its own name',
    (d) => {
      d.crls.pck = { ...d.crls.root };
    },
    'revocation-unknown tdx.pck-chain',
  ],
  [
    'PCK list names the PCK',
    (d) => {
      d.certificates.pck.serial = Uint8Array.of(79);
      d.crls.pck.serials = [Uint8Array.of(79)];
    },
    'revoked tdx.pck-chain',
  ],
  [
    'PCK list names a serial of the same end',
    (d) => {
      d.crls.pck.serials = [Uint8Array.of(1, 0x2a)];
    },
    'good UpToDate',
  ],
  [
    'empty lists',
    (d) => {
      d.crls.pck.serials = [];
      d.crls.root.serials = [];
    },
    'good UpToDate',
  ],
  [
    'lists exchanged',
    (d) => {
      const { root, pck } = d.crls;
      d.crls.root = pck;
      d.crls.pck = root;
    },
    'good UpToDate',
  ],
  [
    'PCK list cut',
    (d) => {
      d.alterCollateral = (c) => ({ ...c, pck_crl: c.pck_crl.slice(0, -2) });
    },
    'malformed tdx.crl-form',
  ],
  [
    'PCK list with a byte more',
    (d) => {
      d.alterCollateral = (c) => ({ ...c, pck_crl: `${c.pck_crl}00` });
    },
    'malformed tdx.crl-form',
  ],
];

describeWithFixtures('forged Intel chains and revocation lists', 'mock-evidence/expected.json', () => {
  for (const rows of [CHAINS, CRLS]) forgeTable(tdxDraft, sealTdx, rows);
});
