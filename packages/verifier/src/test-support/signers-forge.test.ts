/**
 * One row for each line of docs/signers.md that evidence can break: under the right root and with every signature good,
 * the certificate or key of another role signs.
 */
import { der, fromHex } from '@dstack-cloud/encoding';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { forgeTable, type Row } from './forge-table.ts';
import { commonName, setExtension } from './forged-certificate.ts';
import { sealTdx, type TdxDraft, tdxDraft } from './tdx-forge.ts';

const SGX_EXTENSION = '1.2.840.113741.1.13.1';

/** A PCK key of an opened machine: it turns OutOfDate into UpToDate by writing the TCB info itself. */
function pckSignsTcbInfo(d: TdxDraft): void {
  d.tcbChain = ['pck', 'pckCa', 'root'];
  d.signers.tcbInfo = d.keys('tdx-pck');
}

function pckSignsQeIdentity(d: TdxDraft): void {
  d.qeChain = ['pck', 'pckCa', 'root'];
  d.signers.qeIdentity = d.keys('tdx-pck');
}

/** A certificate of the PCK CA with the name of the TCB signer. */
function pckCaIssues(d: TdxDraft, name: 'tcb' | 'qe'): void {
  d.certificates[name].issuer = d.certificates.pckCa.subject;
  d.certificates[name].signer = d.keys('tdx-pck-ca');
  if (name === 'tcb') d.tcbChain = ['tcb', 'pckCa', 'root'];
  else d.qeChain = ['qe', 'pckCa', 'root'];
}

/** The TCB signer with everything that makes a certificate a machine's, in place of the PCK. */
function tcbSignerAsPck(d: TdxDraft): void {
  const sgx = d.certificates.pck.extensions.find(({ oid }) => oid === SGX_EXTENSION)!;
  setExtension(d.certificates.tcb, SGX_EXTENSION, sgx.value, false);
  d.pckChain = ['tcb', 'root'];
  d.signers.qeReport = d.keys('tdx-tcb');
}

const INTEL: readonly Row<TdxDraft>[] = [
  ['TCB info signed by a PCK', pckSignsTcbInfo, 'chain-invalid tdx.tcb-info-signer'],
  ['QE identity signed by a PCK', pckSignsQeIdentity, 'chain-invalid tdx.qe-identity-signer'],
  [
    'both signed by a PCK that names itself TCB signer',
    (d) => {
      d.certificates.pck.subject = d.certificates.tcb.subject;
      pckSignsTcbInfo(d);
      pckSignsQeIdentity(d);
    },
    'chain-invalid tdx.pck-path',
  ],
  ['TCB signer issued by a PCK CA', (d) => pckCaIssues(d, 'tcb'), 'chain-invalid tdx.tcb-info-signer'],
  ['identity signer issued by a PCK CA', (d) => pckCaIssues(d, 'qe'), 'chain-invalid tdx.qe-identity-signer'],
  [
    'TCB signer of another name',
    (d) => {
      d.certificates.tcb.subject = commonName('Mock Intel SGX TCB Signing 2');
    },
    'chain-invalid tdx.tcb-info-signer',
  ],
  [
    'TCB signer of no name',
    (d) => {
      d.certificates.tcb.subject = der.sequence();
    },
    'chain-invalid tdx.tcb-info-signer',
  ],
  [
    'TCB signer with an SGX extension',
    (d) => setExtension(d.certificates.tcb, SGX_EXTENSION, fromHex('3000'), false),
    'chain-invalid tdx.tcb-info-signer',
  ],
  [
    'TCB info signed by the identity signer of a test root',
    (d) => {
      d.tcbChain = ['qe', 'root'];
      d.signers.tcbInfo = d.keys('tdx-qe');
    },
    'chain-invalid tdx.tcb-info-signer',
  ],
  [
    'QE identity signed by the TCB signer, as Intel does',
    (d) => {
      d.qeChain = ['tcb', 'root'];
      d.signers.qeIdentity = d.keys('tdx-tcb');
    },
    'good UpToDate',
  ],
  [
    'TCB info signed by a PCK CA',
    (d) => {
      d.tcbChain = ['pckCa', 'root'];
      d.signers.tcbInfo = d.keys('tdx-pck-ca');
    },
    'chain-invalid tdx.tcb-info-chain',
  ],
  [
    'TCB info signed by the root',
    (d) => {
      d.tcbChain = ['root'];
      d.signers.tcbInfo = d.keys('tdx-root');
    },
    'chain-invalid tdx.tcb-info-chain',
  ],
  ['QE report signed by the TCB signer', tcbSignerAsPck, 'chain-invalid tdx.pck-path'],
  [
    'QE report signed by a PCK issued by the root',
    (d) => {
      d.certificates.pck.issuer = d.certificates.root.subject;
      d.certificates.pck.signer = d.keys('tdx-root');
      d.pckChain = ['pck', 'root'];
    },
    'chain-invalid tdx.pck-path',
  ],
  [
    'QE report signed under a CA that is not for PCKs',
    (d) => {
      const name = commonName('Mock Intel SGX TCB CA');
      d.certificates.pckCa.subject = name;
      d.certificates.pck.issuer = name;
    },
    'chain-invalid tdx.pck-path',
  ],
  [
    'QE report signed by the attestation key',
    (d) => {
      d.signers.qeReport = d.keys('tdx-att');
    },
    'signature-invalid tdx.qe-report-signature',
  ],
  [
    'quote signed by the PCK',
    (d) => {
      d.alterQuote = (quote) => quote;
      d.signers.quote = d.keys('tdx-pck');
      d.qeReportData = new Uint8Array(64);
    },
    'mismatch tdx.qe-report-binding',
  ],
  [
    "root's list signed by the PCK CA",
    (d) => {
      d.crls.root.signer = d.keys('tdx-pck-ca');
    },
    'signature-invalid tdx.root-crl',
  ],
  [
    "PCK CA's list signed by the root",
    (d) => {
      d.crls.pck.signer = d.keys('tdx-root');
    },
    'signature-invalid tdx.pck-chain',
  ],
  [
    "PCK CA's list signed by a PCK",
    (d) => {
      d.crls.pck.signer = d.keys('tdx-pck');
    },
    'signature-invalid tdx.pck-chain',
  ],
  [
    'a list of the root in place of that of the PCK CA',
    (d) => {
      d.crls.pck = d.crls.root;
    },
    'revocation-unknown tdx.pck-chain',
  ],
];

describeWithFixtures('signers of another role', 'mock-evidence/expected.json', () => {
  forgeTable(tdxDraft, sealTdx, INTEL);
});
