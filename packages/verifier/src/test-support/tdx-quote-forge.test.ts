import { createHash } from 'node:crypto';
import { concatBytes } from '@dstack-cloud/encoding';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { forgeTable, type Row } from './forge-table.ts';
import { sealTdx, setTd, setTdBit, type TdxDraft, tdxDraft, toVersion5 } from './tdx-forge.ts';

type TdxRow = Row<TdxDraft>;

const QUOTE: readonly TdxRow[] = [
  ['version 3 with a TD body', (d) => d.signed.set([3]), 'unsupported tdx.quote-form'],
  ['version 2', (d) => d.signed.set([2]), 'unsupported tdx.quote-form'],
  ['attestation key type 3', (d) => d.signed.set([3], 2), 'unsupported tdx.quote-form'],
  ['TEE type 0x82', (d) => d.signed.set([0x82], 4), 'unsupported tdx.quote-form'],
  ['TEE type with a high bit', (d) => d.signed.set([1], 7), 'unsupported tdx.quote-form'],
  ['last byte of the vendor id', (d) => d.signed.set([8], 27), 'unsupported tdx.quote-form'],
  ['version 5, TD 1.5 body', (d) => toVersion5(d, 3, 648), 'good UpToDate'],
  ['version 5, TD 1.0 body', (d) => toVersion5(d, 2, 584), 'good UpToDate'],
  [
    'version 5, type 2 with the size of type 3',
    (d) => toVersion5(d, 2, 648, concatBytes(d.signed.subarray(48), new Uint8Array(64))),
    'unsupported tdx.quote-form',
  ],
  [
    'version 5, type 3 with the size of type 2',
    (d) => toVersion5(d, 3, 584, d.signed.subarray(48)),
    'unsupported tdx.quote-form',
  ],
  [
    'version 5, unknown body type 4',
    (d) => toVersion5(d, 4, 648, concatBytes(d.signed.subarray(48), new Uint8Array(64))),
    'unsupported tdx.quote-form',
  ],
  [
    'version 5, TEE type SGX with a TD body',
    (d) => {
      toVersion5(d, 2, 584);
      d.signed[4] = 0;
    },
    'unsupported tdx.quote-form',
  ],
  [
    'version 5, TEE type SGX with an SGX body',
    (d) => {
      toVersion5(d, 1, 384, new Uint8Array(384));
      d.signed[4] = 0;
    },
    'unsupported tdx.quote-form',
  ],
  [
    'version 5, MRSERVICETD set',
    (d) => {
      toVersion5(d, 3, 648);
      setTd(d, 'mrServiceTd', Uint8Array.of(1), 47);
    },
    'attributes tdx.mrservicetd',
  ],
  [
    'version 5, TEE_TCB_SVN_2 set',
    (d) => {
      toVersion5(d, 3, 648);
      setTd(d, 'svn2', Uint8Array.of(3, 0, 6));
    },
    'good UpToDate',
  ],
  [
    'version 5, debug',
    (d) => {
      toVersion5(d, 3, 648);
      setTdBit(d, 'attributes', 0, true);
    },
    'debug tdx.debug',
  ],
  [
    '3000 zero bytes after the authentication data',
    (d) => {
      d.padding = new Uint8Array(3000);
    },
    'good UpToDate',
  ],
  [
    'cut within the padding of the certificate chain',
    (d) => {
      d.alterQuote = (q) => q.slice(0, -1);
    },
    'malformed tdx.quote-form',
  ],
  [
    'authentication length one too small',
    (d) => {
      d.alterQuote = (q) => {
        q[632]! -= 1;
        return q;
      };
    },
    'malformed tdx.quote-form',
  ],
  [
    'certification type 5 where 6 belongs',
    (d) => {
      d.alterQuote = (q) => {
        q[764] = 5;
        return q;
      };
    },
    'unsupported tdx.quote-form',
  ],
  [
    'inner certification type 8',
    (d) => {
      d.certificationType = 8;
    },
    'unsupported tdx.quote-form',
  ],
  [
    'platform manifest in place of the chain',
    (d) => {
      d.certificationType = 7;
    },
    'unsupported tdx.pck-path',
  ],
  [
    'quote signed by another key',
    (d) => {
      const key = d.signers.quote;
      d.alterQuote = (q) => {
        q.set(d.keys('other').point, 700);
        return q;
      };
      d.signers.quote = key;
    },
    'mismatch tdx.qe-report-binding',
  ],
  [
    'quote signature zero',
    (d) => {
      d.alterQuote = (q) => {
        q.fill(0, 636, 700);
        return q;
      };
    },
    'signature-invalid tdx.quote-signature',
  ],
  [
    'attestation key not on the curve',
    (d) => {
      d.alterQuote = (q) => {
        q[763]! ^= 1;
        return q;
      };
    },
    'mismatch tdx.qe-report-binding',
  ],
  [
    'attestation key not on the curve, but bound',
    (d) => {
      const { quote } = d.signers;
      d.signers.quote = {
        ...quote,
        point: Uint8Array.from(quote.point, (byte, i) => (i === 63 ? byte ^ 1 : byte)),
      };
    },
    'malformed tdx.attestation-key',
  ],
  [
    'attestation key zero, but bound',
    (d) => {
      d.signers.quote = { ...d.signers.quote, point: new Uint8Array(64) };
    },
    'malformed tdx.attestation-key',
  ],
  [
    'user data changed after signing',
    (d) => {
      d.alterQuote = (q) => {
        q[40]! ^= 1;
        return q;
      };
    },
    'signature-invalid tdx.quote-signature',
  ],
  ['user data changed before signing', (d) => d.signed.set([9], 40), 'good UpToDate'],
  [
    'empty',
    (d) => {
      d.alterQuote = () => new Uint8Array(0);
    },
    'malformed tdx.quote-form',
  ],
  [
    'certificate chain ends with NUL',
    (d) => {
      d.alterQuote = (q) => {
        const out = concatBytes(q, new Uint8Array(1));
        const view = new DataView(out.buffer);
        for (const at of [632, 766, 1254]) view.setUint32(at, view.getUint32(at, true) + 1, true);
        return out;
      };
    },
    'good UpToDate',
  ],
];

const QE: readonly TdxRow[] = [
  [
    'QE report signed by the attestation key',
    (d) => {
      d.signers.qeReport = d.keys('tdx-att');
    },
    'signature-invalid tdx.qe-report-signature',
  ],
  [
    'QE binding: other authentication data',
    (d) => {
      d.alterQuote = (q) => {
        q[1220]! ^= 1;
        return q;
      };
    },
    'mismatch tdx.qe-report-binding',
  ],
  [
    'QE report data zero',
    (d) => {
      d.qeReportData = new Uint8Array(64);
    },
    'mismatch tdx.qe-report-binding',
  ],
  [
    'QE report data tail last byte',
    (d) => {
      const bound = createHash('sha256').update(d.keys('tdx-att').point).update(d.qeAuth).digest();
      d.qeReportData = concatBytes(bound, new Uint8Array(31), Uint8Array.of(1));
    },
    'mismatch tdx.qe-report-binding',
  ],
  [
    'QE debug',
    (d) => {
      d.qeReport[48]! |= 2;
    },
    'debug tdx.qe-debug',
  ],
  [
    'QE debug which the mask hides',
    (d) => {
      d.qeReport[48]! |= 2;
      d.qeIdentity.attributesMask = 'FD'.padEnd(16, 'F').padEnd(32, '0');
    },
    'debug tdx.qe-debug',
  ],
  [
    'QE attribute outside the mask',
    (d) => {
      d.qeReport[48]! |= 4;
    },
    'good UpToDate',
  ],
  [
    'QE XFRM outside the mask',
    (d) => {
      d.qeReport[56] = 0x03;
    },
    'good UpToDate',
  ],
  [
    'QE attribute in the mask',
    (d) => {
      d.qeReport[49]! |= 1;
    },
    'mismatch tdx.qe-attributes',
  ],
  [
    'QE misc select, highest byte',
    (d) => {
      d.qeReport[19] = 1;
    },
    'mismatch tdx.qe-miscselect',
  ],
  [
    'QE misc select outside the mask',
    (d) => {
      d.qeReport[16] = 1;
      d.qeIdentity.miscselectMask = 'FEFFFFFF';
    },
    'good UpToDate',
  ],
  [
    'QE product',
    (d) => {
      d.qeReport[256] = 1;
    },
    'mismatch tdx.qe-product',
  ],
  [
    'QE product, high byte',
    (d) => {
      d.qeReport[257] = 1;
    },
    'mismatch tdx.qe-product',
  ],
  [
    'QE signer',
    (d) => {
      d.qeReport[159]! ^= 1;
    },
    'mismatch tdx.qe-mrsigner',
  ],
  [
    'QE version 0',
    (d) => {
      d.qeReport[258] = 0;
    },
    'tcb tdx.qe-level',
  ],
  [
    'QE version 256',
    (d) => {
      d.qeReport[258] = 0;
      d.qeReport[259] = 1;
    },
    'good UpToDate',
  ],
  [
    'QE level between two',
    (d) => {
      d.qeReport[258] = 3;
    },
    'good OutOfDate',
  ],
  [
    'QE levels in ascending order',
    (d) => {
      d.qeIdentity.tcbLevels.reverse();
    },
    'good UpToDate',
  ],
  [
    'QE authentication data of another length',
    (d) => {
      d.qeAuth = new Uint8Array(48).fill(7);
    },
    'good UpToDate',
  ],
];

const ATTRIBUTES: readonly TdxRow[] = [
  ...Array.from({ length: 64 }, (_, bit): TdxRow => {
    const verdict = [28, 30, 31, 63].includes(bit)
      ? 'good UpToDate'
      : bit === 0
        ? 'debug tdx.debug'
        : 'attributes tdx.attributes';
    return [`TDATTRIBUTES bit ${bit}`, (d) => setTdBit(d, 'attributes', bit, true), verdict];
  }),
  ['SEPT_VE_DISABLE off', (d) => setTdBit(d, 'attributes', 28, false), 'attributes tdx.attributes'],
  ['XFAM is free', (d) => setTd(d, 'xfam', Uint8Array.of(0xe7, 0x1a, 0x06)), 'good UpToDate'],
];

const MR_CONFIG: readonly TdxRow[] = [
  [
    'MRCONFIGID of version 1',
    (d) =>
      setTd(
        d,
        'mrConfigId',
        concatBytes(Uint8Array.of(1), d.runtimeEvents.find((e) => e.event === 'compose-hash')!.payload),
      ),
    'good UpToDate',
  ],
  [
    'MRCONFIGID of version 2',
    (d) => setTd(d, 'mrConfigId', concatBytes(Uint8Array.of(2), new Uint8Array(32).fill(7))),
    'good UpToDate',
  ],
  [
    'MRCONFIGID of version 3',
    (d) => setTd(d, 'mrConfigId', concatBytes(Uint8Array.of(3), new Uint8Array(32).fill(7))),
    'good UpToDate',
  ],
  ['MROWNER set', (d) => setTd(d, 'mrOwner', Uint8Array.of(7)), 'good UpToDate'],
];

const WIRE: readonly TdxRow[] = [
  [
    'a byte after the attestation',
    (d) => {
      d.alterBytes = (b) => concatBytes(b, Uint8Array.of(0));
    },
    'malformed evidence.form',
  ],
  [
    'a byte less',
    (d) => {
      d.alterBytes = (b) => b.slice(0, -1);
    },
    'malformed evidence.form',
  ],
];

describeWithFixtures('forged TDX quotes', 'mock-evidence/expected.json', () => {
  for (const rows of [QUOTE, QE, ATTRIBUTES, MR_CONFIG, WIRE]) forgeTable(tdxDraft, sealTdx, rows);
});
