/**
 * One row for each line of docs/signers.md that evidence can break: under the right root and with every signature good,
 * the certificate or key of another role signs.
 */

import { generateKeyPairSync } from 'node:crypto';
import type { RootName } from '@dstack-cloud/attestation';
import { der, fromHex } from '@dstack-cloud/encoding';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { describe } from 'vitest';
import { forgeTable, type Row } from './forge-table.ts';
import type { Forged, Keys } from './forged.ts';
import {
  type CertificatePlan,
  type CrlPlan,
  commonName,
  OID,
  setCa,
  setCrlUrl,
  setExtension,
  setUsage,
  USAGE,
  writeCrl,
} from './forged-certificate.ts';
import { type GcpDraft, gceInstance, gcpDraft, sealGcp, setMachine } from './gcp-forge.ts';
import { type NitroDraft, nitroDraft, sealNitro } from './nitro-forge.ts';
import { SNP, type SnpDraft, sealSnp, snpDraft } from './snp-forge.ts';
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

/** A key's certificate of the AK's CA that is for another use. */
const akUsage =
  (bits: number) =>
  (d: GcpDraft): void => {
    setMachine(d, gceInstance(true));
    setUsage(d.certificates.ak, bits);
  };

const GOOGLE: readonly Row<GcpDraft>[] = [
  ['the key of a machine', (d) => setMachine(d, gceInstance(true)), 'good UpToDate'],
  ['no machine named', (d) => setMachine(d), 'chain-invalid tpm.ak-machine'],
  ['a machine out of production', (d) => setMachine(d, gceInstance(false)), 'chain-invalid tpm.ak-machine'],
  ['a machine of no statement', (d) => setMachine(d, gceInstance()), 'chain-invalid tpm.ak-machine'],
  ['a machine of no properties', (d) => setMachine(d, shortInstance()), 'chain-invalid tpm.ak-machine'],
  ['a machine that cannot be read', (d) => setMachine(d, fromHex('3000')), 'malformed tpm.ak-machine'],
  ['an endorsement key, which deciphers', akUsage(USAGE.encipher), 'chain-invalid tpm.ak-usage'],
  ['a key for certificates', akUsage(USAGE.certificates), 'chain-invalid tpm.ak-chain'],
  [
    'a key for signatures and certificates',
    akUsage(USAGE.sign | USAGE.certificates),
    'chain-invalid tpm.ak-chain',
  ],
  [
    'a CA',
    (d) => {
      setMachine(d, gceInstance(true));
      setCa(d.certificates.ak, true);
    },
    'chain-invalid tpm.ak-chain',
  ],
  [
    'the CA itself',
    (d) => {
      d.certificates.ak = { ...d.certificates.intermediate };
      d.signer = d.keys('tpm-intermediate');
    },
    'chain-invalid tpm.ak-chain',
  ],
  [
    'a machine that issues certificates to machines',
    (d) => {
      setMachine(d, gceInstance(true));
      d.certificates.ak.issuer = d.certificates.ak.subject;
      d.certificates.ak.signer = d.keys('tpm-ak');
    },
    'chain-invalid tpm.ak-chain',
  ],
  [
    "the CA's list signed by the root",
    (d) => {
      setMachine(d, gceInstance(true));
      d.crls.intermediate.signer = d.keys('tpm-root');
    },
    'signature-invalid tpm.ak-chain',
  ],
  [
    "the root's list signed by a machine",
    (d) => {
      setMachine(d, gceInstance(true));
      d.crls.root.signer = d.keys('tpm-ak');
    },
    'signature-invalid tpm.ak-chain',
  ],
];

/** Written before Google stated properties. */
function shortInstance(): Uint8Array {
  const text = der.utf8String('name');
  return der.sequence(text, der.integer(1), text, der.integer(2), text);
}

const moduleOf = (d: NitroDraft): string => String(d.members.get('module_id'));
/** The leaf as AWS issues it: named for the module, and for signing. */
function asAws(d: NitroDraft, module = moduleOf(d)): void {
  d.certificates.leaf.subject = commonName(`${module}.us-east-1.aws`);
  setUsage(d.certificates.leaf, USAGE.sign);
}
const ENCLAVE = 'i-0a1b2c3d4e5f60718-enc0192837465abcdef';
const TPM = 'i-0a1b2c3d4e5f60718-tpm0000000000000000';
/** Bare, a document is of the kind that it says. */
const ATTESTATION = ['v0', 'v1'] as const;
const setModule =
  (module: string) =>
  (d: NitroDraft): void => {
    d.members.set('module_id', module);
  };
const speakFor =
  (module: string, certified = module) =>
  (d: NitroDraft): void => {
    d.members.set('module_id', module);
    asAws(d, certified);
  };

/** Rules of both kinds of documents; `own` is a module of the kind, `other` one of the other. */
function amazon(own: string, other: string, good: string): readonly Row<NitroDraft>[] {
  return [
    ['the module itself', (d) => asAws(d), good],
    ['a module of the other kind', speakFor(other), 'chain-invalid nitro.module', ATTESTATION],
    ['a module of no kind', speakFor('i-0a1b2c3d4e5f60718'), 'chain-invalid nitro.module'],
    ['certificate of the other kind', speakFor(own, other), 'chain-invalid nitro.module'],
    ['certificate of another module', speakFor(own, `${own}0`), 'chain-invalid nitro.module'],
    [
      'certificate of a module with a longer name',
      speakFor(own, own.replace('i-0', 'i-00')),
      'chain-invalid nitro.module',
    ],
    [
      'certificate of no name',
      (d) => {
        asAws(d);
        d.certificates.leaf.subject = der.sequence();
      },
      'chain-invalid nitro.module',
    ],
    [
      'certificate that states no use',
      (d) => {
        asAws(d);
        setExtension(d.certificates.leaf, OID.keyUsage);
      },
      'chain-invalid nitro.leaf-usage',
    ],
    [
      'certificate for deciphering',
      (d) => {
        asAws(d);
        setUsage(d.certificates.leaf, USAGE.encipher);
      },
      'chain-invalid nitro.leaf-usage',
    ],
    [
      'certificate of a CA',
      (d) => {
        asAws(d);
        setCa(d.certificates.leaf, true);
      },
      'chain-invalid nitro.chain',
    ],
    [
      'signed by the CA of its zone',
      (d) => {
        asAws(d);
        d.signer = d.keys('nsm-intermediate');
      },
      'signature-invalid nitro.signature',
    ],
    [
      'another module in place of a CA',
      (d) => {
        asAws(d);
        setCa(d.certificates.intermediate, false);
      },
      'chain-invalid nitro.chain',
    ],
  ];
}
/** Test roots name no modules, so no certificate is held to one; what speaks for the wrong kind is refused all the same. */
const otherKind = (module: string, good: string): readonly Row<NitroDraft>[] => [
  ['a module of the other kind', setModule(module), 'chain-invalid nitro.module', ATTESTATION],
  ['a module of no kind', setModule('simulator'), good],
];

const rsaKey = () => generateKeyPairSync('rsa', { modulusLength: 2048 });
const [ARK, ASK] = [rsaKey(), rsaKey()];
const spkiOf = ({ publicKey }: ReturnType<typeof rsaKey>): Uint8Array =>
  new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }));
/** Names, keys and bits that AMD's own chain has. */
function asAmd(d: SnpDraft): void {
  const { ark, ask, vcek } = d.certificates;
  ark.subject = ark.issuer = ask.issuer = commonName('ARK-Genoa');
  ark.spki = spkiOf(ARK);
  ask.spki = spkiOf(ASK);
  ark.rsa = ask.rsa = ARK.privateKey;
  vcek.rsa = ASK.privateKey;
  ask.subject = vcek.issuer = commonName('SEV-Genoa');
  vcek.subject = commonName('SEV-VCEK');
  d.report[SNP.platformInfo]! |= 1 << 5;
  for (const [part, byte] of [
    [1, 0],
    [2, 1],
    [3, 6],
    [8, 7],
  ] as const) {
    const level = der.integer(d.report[SNP.reportedTcb + byte]!);
    setExtension(vcek, `1.3.6.1.4.1.3704.1.3.${part}`, level, false);
  }
  setExtension(vcek, '1.3.6.1.4.1.3704.1.4', d.report.slice(SNP.chipId, SNP.chipId + 64), false);
}
const amd =
  (change: (d: SnpDraft) => void) =>
  (d: SnpDraft): void => {
    asAmd(d);
    change(d);
  };
const nameAsk = (name: string) =>
  amd(({ certificates: { ask, vcek } }) => {
    ask.subject = vcek.issuer = commonName(name);
  });
const nameLeaf = (name: string) =>
  amd(({ certificates }) => {
    certificates.vcek.subject = commonName(name);
  });
const CSP_ID = '1.3.6.1.4.1.3704.1.5';

const AMD: readonly Row<SnpDraft>[] = [
  ['the chip itself', asAmd, 'good UpToDate'],
  ['a chip certified by the CA of VLEKs', nameAsk('SEV-VLEK-Genoa'), 'chain-invalid snp.chain-roles', ['v0']],
  ['a chip certified by the CA of Milan', nameAsk('SEV-Milan'), 'chain-invalid snp.chain-roles', ['v0']],
  ['a chip of another name', nameLeaf('SEV-VCEK-2'), 'chain-invalid snp.chain-roles', ['v0']],
  [
    'a VLEK by its extension',
    amd(({ certificates }) => setExtension(certificates.vcek, CSP_ID, fromHex('1603617773'), false)),
    'unsupported snp.certificates',
    ['v0'],
  ],
  [
    'signed by the ASK',
    amd((d) => {
      d.signer = d.keys('sev-ask');
    }),
    'signature-invalid snp.signature',
    ['v0'],
  ],
  [
    'signed by the root',
    amd((d) => {
      d.signer = d.keys('sev-root');
    }),
    'signature-invalid snp.signature',
    ['v0'],
  ],
];

const AMD_LIST = 'https://kdsintf.amd.com/vcek/v1/Genoa/crl';
/** AMD's list, which the ASK names, as changed. */
function listed(seal: (d: SnpDraft) => Forged, change: (list: CrlPlan, d: SnpDraft) => void) {
  return (d: SnpDraft): Forged => {
    const { ark, ask } = d.certificates;
    setCrlUrl(ask, AMD_LIST);
    const list: CrlPlan = { ...listOf(ark), rsa: ARK.privateKey };
    change(list, d);
    return { ...seal(d), crls: { [AMD_LIST]: writeCrl(list) } };
  };
}
const LISTS: readonly [string, (list: CrlPlan, d: SnpDraft) => void, string][] = [
  ['of the root', () => undefined, 'good UpToDate'],
  [
    'of the root, which names the ASK',
    (list, { certificates }) => {
      list.serials = [certificates.ask.serial];
    },
    'revoked snp.revocation',
  ],
  [
    'signed by the ASK',
    (list) => {
      list.rsa = ASK.privateKey;
    },
    'signature-invalid snp.revocation',
  ],
  [
    'signed by a chip',
    (list, { keys }) => {
      delete list.rsa;
      list.signer = keys('sev-vcek');
    },
    'signature-invalid snp.revocation',
  ],
];

const AWS_LIST = 'http://crl.example/zone.crl';
function zoneList(change: (list: CrlPlan, d: NitroDraft) => void) {
  return (d: NitroDraft): Forged => {
    const { intermediate, leaf } = d.certificates;
    setCrlUrl(leaf, AWS_LIST);
    const list = { ...listOf(intermediate), signer: d.keys('nsm-intermediate') };
    change(list, d);
    return { ...sealNitro(d), crls: { [AWS_LIST]: writeCrl(list) } };
  };
}
const ZONE_LISTS: readonly [string, (list: CrlPlan, d: NitroDraft) => void, string][] = [
  ['of the CA', () => undefined, 'good'],
  [
    'of the CA, which names the module',
    (list, { certificates }) => {
      list.serials = [certificates.leaf.serial];
    },
    'revoked nitro.revocation',
  ],
  [
    'signed by the root',
    (list, { keys }) => {
      list.signer = keys('nsm-root');
    },
    'signature-invalid nitro.revocation',
  ],
  [
    'signed by a module',
    (list, { keys }) => {
      list.signer = keys('nsm-leaf');
    },
    'signature-invalid nitro.revocation',
  ],
];

function listOf({ subject, signer }: CertificatePlan): CrlPlan {
  const times = { thisUpdate: 1781524800 - 60, nextUpdate: 1781524800 + 60 };
  return { issuer: subject, ...times, serials: [], signer };
}

/** Verified as if its roots were the vendors' own. */
const asVendors =
  <D>(seal: (draft: D) => Forged, ...vendors: RootName[]) =>
  (draft: D): Forged => ({ ...seal(draft), vendors });

describeWithFixtures('signers of another role', 'mock-evidence/expected.json', () => {
  describe('TDX', () => forgeTable(tdxDraft, sealTdx, INTEL));
  describe('Google', () => forgeTable(gcpDraft, asVendors(sealGcp, 'gcp_tpm'), GOOGLE));
  const nitro = asVendors(sealNitro, 'aws_nitro_enclave', 'aws_nitro_tpm');
  const enclave = (keys: Keys): NitroDraft => nitroDraft(keys, 'nsm');
  const tpm = (keys: Keys): NitroDraft => nitroDraft(keys, 'nitro-tpm');
  describe('NSM', () => forgeTable(enclave, nitro, amazon(ENCLAVE, TPM, 'good')));
  describe('NitroTPM', () => forgeTable(tpm, nitro, amazon(TPM, ENCLAVE, 'good UpToDate')));
  describe('NSM of a test root', () => forgeTable(enclave, sealNitro, otherKind(TPM, 'good')));
  describe('NitroTPM of a test root', () => forgeTable(tpm, sealNitro, otherKind(ENCLAVE, 'good UpToDate')));
  const snp = asVendors(sealSnp, 'sev_snp_milan', 'sev_snp_genoa', 'sev_snp_turin');
  describe('SEV-SNP', () => forgeTable(snpDraft, snp, AMD));
  describe.each(LISTS)('list of AMD %s', (_name, change, verdict) =>
    forgeTable(snpDraft, listed(snp, change), [['the chip', asAmd, verdict]]),
  );
  describe.each(ZONE_LISTS)('list of AWS %s', (_name, change, verdict) =>
    forgeTable(enclave, zoneList(change), [['the enclave', () => undefined, verdict]]),
  );
});
