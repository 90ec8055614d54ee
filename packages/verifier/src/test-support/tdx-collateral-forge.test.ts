import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { forgeTable, type Row } from './forge-table.ts';
import { type Json, sealTdx, setTd, type TdxDraft, tdxDraft } from './tdx-forge.ts';

type TdxRow = Row<TdxDraft>;
const iso = (seconds: number): string => new Date(seconds * 1000).toISOString().replace('.000Z', 'Z');

const COLLATERAL: readonly TdxRow[] = [
  [
    'TCB info expired by a second',
    (d) => {
      d.tcbInfo.nextUpdate = iso(d.now - 1);
    },
    'expired tdx.tcb-info-dates',
  ],
  [
    'TCB info in its last second',
    (d) => {
      d.tcbInfo.nextUpdate = iso(d.now);
    },
    'good UpToDate',
  ],
  [
    'TCB info issued a second later',
    (d) => {
      d.tcbInfo.issueDate = iso(d.now + 1);
    },
    'not-yet-valid tdx.tcb-info-dates',
  ],
  [
    'TCB info issued this second',
    (d) => {
      d.tcbInfo.issueDate = iso(d.now);
    },
    'good UpToDate',
  ],
  [
    'QE identity from the future',
    (d) => {
      d.qeIdentity.issueDate = iso(d.now + 1);
    },
    'not-yet-valid tdx.qe-identity-dates',
  ],
  [
    'QE identity expired by a second',
    (d) => {
      d.qeIdentity.nextUpdate = iso(d.now - 1);
    },
    'expired tdx.qe-identity-dates',
  ],
  [
    'QE identity in its last second',
    (d) => {
      d.qeIdentity.nextUpdate = iso(d.now);
    },
    'good UpToDate',
  ],
  [
    'QE identity signed by another key',
    (d) => {
      d.signers.qeIdentity = d.keys('other');
    },
    'signature-invalid tdx.qe-identity-signature',
  ],
  [
    'QE identity altered after signing',
    (d) => {
      d.alterCollateral = (c) => ({
        ...c,
        qe_identity: c.qe_identity.replace('"isvprodid":2', '"isvprodid":3'),
      });
    },
    'signature-invalid tdx.qe-identity-signature',
  ],
  [
    'QE identity with a blank',
    (d) => {
      d.alterCollateral = (c) => ({ ...c, qe_identity: c.qe_identity.replace(',', ', ') });
    },
    'signature-invalid tdx.qe-identity-signature',
  ],
  [
    'TCB info with a blank',
    (d) => {
      d.alterCollateral = (c) => ({ ...c, tcb_info: `${c.tcb_info} ` });
    },
    'signature-invalid tdx.tcb-info-signature',
  ],
  [
    'TCB info signed over its re-serialised form',
    (d) => {
      const text = JSON.stringify(d.tcbInfo);
      d.tcbInfo = text;
      d.alterCollateral = (c) => ({ ...c, tcb_info: JSON.stringify(JSON.parse(text), undefined, 1) });
    },
    'signature-invalid tdx.tcb-info-signature',
  ],
  [
    'TCB info written with blanks and signed so',
    (d) => {
      d.tcbInfo = JSON.stringify(d.tcbInfo, undefined, 1);
    },
    'good UpToDate',
  ],
  [
    'TCB info signature of 63 bytes',
    (d) => {
      d.alterCollateral = (c) => ({ ...c, tcb_info_signature: c.tcb_info_signature.slice(2) });
    },
    'malformed evidence.form',
  ],
  [
    'QE identity version 3',
    (d) => {
      d.qeIdentity.version = 3;
    },
    'good UpToDate',
  ],
  [
    'QE identity version 4',
    (d) => {
      d.qeIdentity.version = 4;
    },
    'collateral-invalid tdx.qe-identity-kind',
  ],
  [
    'QE identity version 1',
    (d) => {
      d.qeIdentity.version = 1;
    },
    'collateral-invalid tdx.qe-identity-kind',
  ],
  [
    'QE identity QVE',
    (d) => {
      d.qeIdentity.id = 'QVE';
    },
    'collateral-invalid tdx.qe-identity-kind',
  ],
  [
    'TCB info version 2',
    (d) => {
      d.tcbInfo.version = 2;
    },
    'unsupported tdx.tcb-info-form',
  ],
  [
    'TCB info of type 1',
    (d) => {
      d.tcbInfo.tcbType = 1;
    },
    'unsupported tdx.tcb-info-form',
  ],
  [
    'TCB info version 4',
    (d) => {
      d.tcbInfo.version = 4;
    },
    'unsupported tdx.tcb-info-form',
  ],
  [
    'TCB info of another FMSPC',
    (d) => {
      d.tcbInfo.fmspc = 'F36BDDD67427'.slice(0, 12).replace(/.$/, '8');
    },
    'collateral-invalid tdx.tcb-info-platform',
  ],
  [
    'TCB info of another PCEID',
    (d) => {
      d.tcbInfo.pceId = '0001';
    },
    'collateral-invalid tdx.tcb-info-platform',
  ],
  [
    'TCB info without levels',
    (d) => {
      d.tcbInfo.tcbLevels = [];
    },
    'tcb tdx.tcb-level',
  ],
  [
    'unknown status',
    (d) => {
      d.tcbInfo.tcbLevels[0].tcbStatus = 'Fine';
    },
    'unsupported tdx.tcb-info-form',
  ],
  [
    '17 SGX components',
    (d) => {
      d.tcbInfo.tcbLevels[0].tcb.sgxtcbcomponents.push({ svn: 0 });
    },
    'malformed tdx.tcb-info-form',
  ],
  [
    '15 TDX components',
    (d) => {
      d.tcbInfo.tcbLevels[0].tcb.tdxtcbcomponents.pop();
    },
    'malformed tdx.tcb-info-form',
  ],
  [
    '17 TDX components',
    (d) => {
      d.tcbInfo.tcbLevels[0].tcb.tdxtcbcomponents.push({ svn: 0 });
    },
    'malformed tdx.tcb-info-form',
  ],
  [
    'no TDX components',
    (d) => {
      delete d.tcbInfo.tcbLevels[0].tcb.tdxtcbcomponents;
    },
    'malformed tdx.tcb-info-form',
  ],
  [
    'another tcbEvaluationDataNumber',
    (d) => {
      d.tcbInfo.tcbEvaluationDataNumber = 18;
    },
    'good UpToDate',
  ],
  [
    'collateral of a foreign QE signer',
    (d) => {
      d.certificates.qe.signer = d.keys('other');
    },
    'signature-invalid tdx.qe-identity-chain',
  ],
];

const levelOf = (d: TdxDraft, index = 0): Json => d.tcbInfo.tcbLevels[index];
const TCB: readonly TdxRow[] = [
  [
    'level above the CPUSVN in the last component',
    (d) => {
      levelOf(d).tcb.sgxtcbcomponents[15].svn = 1;
    },
    'good SWHardeningNeeded',
  ],
  [
    'level above the PCESVN',
    (d) => {
      levelOf(d).tcb.pcesvn = 12;
    },
    'good SWHardeningNeeded',
  ],
  [
    'level above TEE_TCB_SVN[2]',
    (d) => {
      levelOf(d).tcb.tdxtcbcomponents[2].svn = 7;
    },
    'good SWHardeningNeeded',
  ],
  [
    'level above TEE_TCB_SVN[0], module 0',
    (d) => {
      levelOf(d).tcb.tdxtcbcomponents[0].svn = 4;
    },
    'good SWHardeningNeeded',
  ],
  [
    'level above TEE_TCB_SVN[0], module 1',
    (d) => {
      levelOf(d).tcb.tdxtcbcomponents[0].svn = 9;
      setTd(d, 'svn', Uint8Array.of(4, 1, 6));
    },
    'good UpToDate',
  ],
  [
    'no level fits',
    (d) => {
      setTd(d, 'svn', new Uint8Array(16));
    },
    'tcb tdx.tcb-level',
  ],
  [
    'all fit, listed upwards',
    (d) => {
      d.tcbInfo.tcbLevels.reverse();
    },
    'good UpToDate',
  ],
  [
    'platform revoked',
    (d) => {
      levelOf(d).tcbStatus = 'Revoked';
    },
    'tcb tdx.tcb-status',
  ],
  [
    'QE revoked',
    (d) => {
      d.qeIdentity.tcbLevels[0].tcbStatus = 'Revoked';
    },
    'tcb tdx.tcb-status',
  ],
  [
    'module revoked',
    (d) => {
      setTd(d, 'svn', Uint8Array.of(4, 1, 6));
      d.tcbInfo.tdxModuleIdentities[1].tcbLevels[0].tcbStatus = 'Revoked';
    },
    'tcb tdx.tcb-status',
  ],
  [
    'module out of date',
    (d) => {
      setTd(d, 'svn', Uint8Array.of(3, 1, 6));
    },
    'good OutOfDate',
  ],
  [
    'module below every level',
    (d) => {
      setTd(d, 'svn', Uint8Array.of(1, 1, 6));
    },
    'tcb tdx.module',
  ],
  [
    'module without identity',
    (d) => {
      setTd(d, 'svn', Uint8Array.of(3, 4, 6));
    },
    'tcb tdx.module',
  ],
  [
    'no identities at all, module 1',
    (d) => {
      setTd(d, 'svn', Uint8Array.of(4, 1, 6));
      d.tcbInfo.tdxModuleIdentities = [];
    },
    'good UpToDate',
  ],
  [
    'module identity of another signer',
    (d) => {
      setTd(d, 'svn', Uint8Array.of(4, 1, 6));
      d.tcbInfo.tdxModuleIdentities[1].mrsigner = '01'.padStart(96, '0');
    },
    'mismatch tdx.module',
  ],
  [
    'module attributes outside the mask',
    (d) => {
      d.tcbInfo.tdxModule.attributesMask = '00'.padEnd(16, 'F');
      setTd(d, 'seamAttributes', Uint8Array.of(1));
    },
    'mismatch tdx.module',
  ],
  [
    'module attributes in the mask',
    (d) => {
      setTd(d, 'seamAttributes', Uint8Array.of(1), 7);
    },
    'mismatch tdx.module',
  ],
  [
    'module attributes demanded but zero',
    (d) => {
      d.tcbInfo.tdxModule.attributes = '01'.padEnd(16, '0');
    },
    'mismatch tdx.module',
  ],
  [
    'module attributes demanded and there',
    (d) => {
      d.tcbInfo.tdxModule.attributes = '01'.padEnd(16, '0');
      setTd(d, 'seamAttributes', Uint8Array.of(1));
    },
    'good UpToDate',
  ],
  [
    'identity attributes outside its mask',
    (d) => {
      setTd(d, 'svn', Uint8Array.of(4, 1, 6));
      d.tcbInfo.tdxModuleIdentities[1].attributesMask = '0'.repeat(16);
      setTd(d, 'seamAttributes', Uint8Array.of(0x80), 3);
    },
    'mismatch tdx.module',
  ],
  [
    'MRSIGNERSEAM endorsed by the TCB info',
    (d) => {
      setTd(d, 'mrSignerSeam', Uint8Array.of(1));
      d.tcbInfo.tdxModule.mrsigner = '01'.padEnd(96, '0');
    },
    'attributes tdx.mrsignerseam',
  ],
  ['MRSIGNERSEAM last byte', (d) => setTd(d, 'mrSignerSeam', Uint8Array.of(1), 47), 'mismatch tdx.module'],
  ['MRSEAM is free', (d) => setTd(d, 'mrSeam', Uint8Array.of(0xee)), 'good UpToDate'],
  ...['ConfigurationNeeded', 'ConfigurationAndSWHardeningNeeded', 'OutOfDateConfigurationNeeded'].map(
    (status): TdxRow => [
      `status ${status}`,
      (d) => {
        levelOf(d).tcbStatus = status;
      },
      `good ${status}`,
    ],
  ),
];

describeWithFixtures('forged TCB info and QE identity', 'mock-evidence/expected.json', () => {
  for (const rows of [COLLATERAL, TCB]) forgeTable(tdxDraft, sealTdx, rows);
});
