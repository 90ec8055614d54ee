import { createHash } from 'node:crypto';
import {
  concatBytes,
  der,
  encodePem,
  fromBase64,
  fromHex,
  toBase64,
  toHex,
  utf8,
} from '@dstack-cloud/encoding';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { forgeTable, type Row } from './forge-table.ts';
import {
  type CertificatePlan,
  commonName,
  OID,
  setCa,
  setExtension,
  setUsage,
  USAGE,
  writeCertificate,
} from './forged-certificate.ts';
import { pemChain, SNP, type SnpDraft, sealSnp, setMrConfig, snpDraft, tableChain } from './snp-forge.ts';

/** Without an attestation around it the same bytes mean something else. */
const ATTESTATION = ['v0', 'v1'] as const;
type SnpRow = Row<SnpDraft>;
const AMD = '1.3.6.1.4.1.3704.1';
const set =
  (field: keyof typeof SNP, ...bytes: number[]) =>
  (d: SnpDraft): void =>
    d.report.set(bytes, SNP[field]);
function setBit(d: SnpDraft, field: keyof typeof SNP, bit: number, value = true): void {
  const at = SNP[field] + (bit >> 3);
  const mask = 1 << (bit & 7);
  d.report[at] = value ? d.report[at]! | mask : d.report[at]! & ~mask;
}
const bit =
  (field: keyof typeof SNP, index: number, value = true) =>
  (d: SnpDraft): void =>
    setBit(d, field, index, value);
const cpuid =
  (...bytes: [number, number, number]) =>
  (d: SnpDraft): void => {
    d.report[0] = 3;
    d.report.set(bytes, SNP.cpuid);
  };

const versioned =
  (version: number, family: number, model: number) =>
  (d: SnpDraft): void => {
    cpuid(family, model, 0)(d);
    d.report[0] = version;
  };

const REPORT: readonly SnpRow[] = [
  ...[0, 1, 6, 258].map(
    (version): SnpRow => [
      `version ${version}`,
      set('version', version & 255, version >> 8),
      'unsupported snp.report',
    ],
  ),
  ['version 3, Milan', cpuid(0x19, 1, 0), 'good UpToDate'],
  ['version 4, Milan', versioned(4, 0x19, 1), 'good UpToDate'],
  ['version 5, Milan', versioned(5, 0x19, 1), 'good UpToDate'],
  ['version 5, Turin', versioned(5, 0x1a, 2), 'good UpToDate'],
  ['version 5 of no family', versioned(5, 0, 0), 'unsupported snp.family'],
  [
    'version 5 with mitigations and SEV-TIO',
    (d) => {
      versioned(5, 0x19, 1)(d);
      d.report.fill(0x0b, 0x1f8, 0x208);
      setBit(d, 'platformInfo', 7);
    },
    'good UpToDate',
  ],
  [
    'a VLEK, before anything else that is wrong',
    (d) => {
      setBit(d, 'keyInfo', 2);
      d.report[SNP.vmpl] = 1;
      d.report[SNP.algorithm] = 9;
      d.chain = () => [];
    },
    'unsupported snp.signing-key',
  ],
  ['version 3, Genoa', cpuid(0x19, 0x11, 0), 'good UpToDate'],
  ['version 3, Bergamo', cpuid(0x19, 0xa0, 0), 'good UpToDate'],
  ['version 3, Turin', cpuid(0x1a, 0x02, 0), 'good UpToDate'],
  ['version 3, family 19h model 20h', cpuid(0x19, 0x20, 0), 'unsupported snp.family'],
  ['version 3, family 19h model 9fh', cpuid(0x19, 0x9f, 0), 'unsupported snp.family'],
  ['version 3, family 19h model b0h', cpuid(0x19, 0xb0, 0), 'unsupported snp.family'],
  ['version 3, family 1ah model 12h', cpuid(0x1a, 0x12, 0), 'unsupported snp.family'],
  ['version 3, family 17h', cpuid(0x17, 0x31, 0), 'unsupported snp.family'],
  ['version 3, CPUID zero', cpuid(0, 0, 0), 'unsupported snp.family'],
  [
    'one byte less',
    (d) => {
      d.alterReport = (r) => r.slice(0, -1);
    },
    'malformed snp.report',
  ],
  [
    'one byte more',
    (d) => {
      d.alterReport = (r) => concatBytes(r, Uint8Array.of(0));
    },
    'malformed snp.report',
  ],
  [
    'empty',
    (d) => {
      d.alterReport = () => new Uint8Array(0);
    },
    'malformed snp.report',
  ],
  ['signature algorithm 0', set('algorithm', 0), 'unsupported snp.signature-algorithm'],
  ['signature algorithm 2', set('algorithm', 2), 'unsupported snp.signature-algorithm'],
  [
    'signature by another key',
    (d) => {
      d.signer = d.keys('sev-other');
    },
    'signature-invalid snp.signature',
  ],
  [
    'signature by the ASK',
    (d) => {
      d.signer = d.keys('sev-ask');
    },
    'signature-invalid snp.signature',
  ],
  [
    'signature zero',
    (d) => {
      d.alterReport = (r) => {
        r.fill(0, SNP.signature);
        return r;
      };
    },
    'signature-invalid snp.signature',
  ],
  [
    'signature with a byte above 48',
    (d) => {
      d.alterReport = (r) => {
        r[SNP.signature + 50] = 1;
        return r;
      };
    },
    'malformed snp.report',
  ],
  [
    'a byte after the signature',
    (d) => {
      d.alterReport = (r) => {
        r[r.length - 1] = 1;
        return r;
      };
    },
    'malformed snp.report',
  ],
  [
    'a reserved byte changed after signing',
    (d) => {
      d.alterReport = (r) => {
        r[0x4c] = 1;
        return r;
      };
    },
    'signature-invalid snp.signature',
  ],
  [
    'chip id changed after signing',
    (d) => {
      d.alterReport = (r) => {
        r[SNP.chipId]! ^= 1;
        return r;
      };
    },
    'signature-invalid snp.signature',
  ],
  [
    'report data',
    (d) => {
      d.reportData = new Uint8Array(64);
    },
    'mismatch snp.report-data',
  ],
  ['report data in the report', set('reportData', 1, 2, 3), 'mismatch snp.report-data'],
];

const POLICY: readonly SnpRow[] = [
  ['debug', bit('policy', 19), 'debug snp.debug'],
  ['migration agent', bit('policy', 18), 'attributes snp.migration'],
  ['RAPL must be off, but is on', bit('policy', 23), 'attributes snp.rapl'],
  [
    'RAPL must be off, and is',
    (d) => {
      setBit(d, 'policy', 23);
      setBit(d, 'platformInfo', 3);
    },
    'good UpToDate',
  ],
  ['ciphertext hiding demanded, but off', bit('policy', 24), 'attributes snp.ciphertext-hiding'],
  [
    'ciphertext hiding demanded and on',
    (d) => {
      setBit(d, 'policy', 24);
      setBit(d, 'platformInfo', 4);
    },
    'good UpToDate',
  ],
  ['SMT on and allowed', bit('platformInfo', 0), 'good UpToDate'],
  [
    'SMT on and not allowed',
    (d) => {
      setBit(d, 'platformInfo', 0);
      setBit(d, 'policy', 16, false);
    },
    'attributes snp.smt',
  ],
  [
    'SMT off and not allowed',
    (d) => {
      setBit(d, 'platformInfo', 0, false);
      setBit(d, 'policy', 16, false);
    },
    'good UpToDate',
  ],
  ['single socket', bit('policy', 20), 'good UpToDate'],
  ...[1, 2, 3].map((level): SnpRow => [`VMPL ${level}`, set('vmpl', level), 'attributes snp.vmpl']),
  ['VMPL of 2^24', set('vmpl', 0, 0, 0, 1), 'attributes snp.vmpl'],
  ['chip key masked', bit('keyInfo', 1), 'attributes snp.chip-key'],
  ...[1, 2, 3, 7].map(
    (key): SnpRow => [`signing key ${key}`, set('keyInfo', key << 2), 'unsupported snp.signing-key'],
  ),
  ['author key present', bit('keyInfo', 0), 'good UpToDate'],
  ['reported TCB lower', set('reportedTcb', 1), 'good OutOfDate'],
  ['committed TCB lower', set('committedTcb', 1), 'good OutOfDate'],
  ['launch TCB lower', set('launchTcb', 1), 'good OutOfDate'],
  ['current TCB higher', set('currentTcb', 9), 'good OutOfDate'],
];

function table(...names: Parameters<typeof tableChain>): (d: SnpDraft) => void {
  return (d) => {
    d.chain = tableChain(...names);
  };
}
const derChain = (d: SnpDraft): Uint8Array[] => [
  writeCertificate(d.certificates.ask),
  writeCertificate(d.certificates.vcek),
];
const pemOf = (plan: CertificatePlan): Uint8Array => utf8(encodePem('CERTIFICATE', writeCertificate(plan)));
const bundle = (d: SnpDraft, ...names: ('ark' | 'ask' | 'vcek')[]): Uint8Array[] =>
  names.map((name) => pemOf(d.certificates[name]));
/** The key under AMD's root that issues VLEKs. */
function asvk(d: SnpDraft, serial: Uint8Array = Uint8Array.of(2)): Uint8Array {
  const subject = commonName('SEV-VLEK-Milan');
  return pemOf({ ...d.certificates.ask, subject, serial, spki: d.keys('sev-asvk').spki });
}
/** An SVN as AMD writes it into a VCEK. */
const svn = (d: SnpDraft, part: string, value: number): void =>
  setExtension(d.certificates.vcek, `${AMD}.3.${part}`, der.integer(value), false);
const chip = (d: SnpDraft, id: Uint8Array): void => setExtension(d.certificates.vcek, `${AMD}.4`, id, false);
const CHAIN: readonly SnpRow[] = [
  [
    'DER',
    (d) => {
      d.chain = derChain;
    },
    'good UpToDate',
  ],
  ['certificate table', table('ask', 'vcek'), 'good UpToDate'],
  ['certificate table in another order', table('vcek', 'ask'), 'good UpToDate'],
  ['certificate table with VLEK', table('ask', 'vlek'), 'unsupported snp.certificates'],
  ['certificate table with VCEK and VLEK', table('ask', 'vcek', 'vlek'), 'unsupported snp.certificates'],
  ['certificate table without ASK', table('vcek'), 'malformed snp.certificates'],
  ['certificate table without VCEK', table('ask'), 'malformed snp.certificates'],
  ['certificate table with ASK twice', table('ask', 'ask', 'vcek'), 'malformed snp.certificates'],
  [
    'certificate table cut',
    (d) => {
      d.chain = (x) => [tableChain('ask', 'vcek')(x)[0]!.slice(0, -1)];
    },
    'malformed snp.certificates',
  ],
  [
    'certificate table of no end',
    (d) => {
      d.chain = () => [new Uint8Array(4096).fill(1)];
    },
    'malformed snp.certificates',
  ],
  [
    'certificate table empty',
    (d) => {
      d.chain = () => [new Uint8Array(24)];
    },
    'malformed snp.certificates',
  ],
  [
    'three certificates',
    (d) => {
      d.chain = (x) => [...pemChain(x), utf8(encodePem('CERTIFICATE', writeCertificate(x.certificates.ark)))];
    },
    'malformed snp.certificates',
  ],
  [
    'one certificate',
    (d) => {
      d.chain = (x) => pemChain(x).slice(1);
    },
    'malformed snp.certificates',
  ],
  [
    'no certificates, none to be had',
    (d) => {
      d.chain = () => [];
    },
    'collateral-unavailable snp.certificates',
  ],
  [
    'VCEK before ASK',
    (d) => {
      d.chain = (x) => pemChain(x).reverse();
    },
    'good UpToDate',
  ],
  [
    'all of them in one PEM text, VCEK last',
    (d) => {
      d.chain = (x) => [concatBytes(...bundle(x, 'ark', 'ask', 'vcek'))];
    },
    'good UpToDate',
  ],
  [
    'all of them in one PEM text, VCEK first, an ASVK beside',
    (d) => {
      d.chain = (x) => [concatBytes(...bundle(x, 'vcek'), asvk(x), ...bundle(x, 'ark', 'ask'))];
    },
    'good UpToDate',
  ],
  [
    "AMD's bundle in front of the VCEK",
    (d) => {
      d.chain = (x) => [concatBytes(...bundle(x, 'ask', 'ark'), asvk(x)), ...bundle(x, 'vcek')];
    },
    'good UpToDate',
  ],
  [
    'a VLEK in place of the VCEK',
    (d) => setExtension(d.certificates.vcek, `${AMD}.5`, fromHex('160441434d45'), false),
    'unsupported snp.certificates',
  ],
  [
    'a VLEK by its name alone',
    (d) => {
      d.certificates.vcek.subject = commonName('SEV-VLEK');
    },
    'unsupported snp.certificates',
  ],
  [
    'two VCEKs',
    (d) => {
      d.chain = (x) => {
        const other = { ...x.certificates.vcek, serial: Uint8Array.of(7) };
        return [...bundle(x, 'ask'), concatBytes(...bundle(x, 'vcek'), pemOf(other))];
      };
    },
    'malformed snp.certificates',
    ATTESTATION,
  ],
  [
    'nine certificates',
    (d) => {
      d.chain = (x) => [
        concatBytes(
          ...bundle(x, 'ask', 'vcek'),
          ...Array.from({ length: 7 }, (_, i) => asvk(x, Uint8Array.of(i + 1))),
        ),
      ];
    },
    'too-large snp.certificates',
    ATTESTATION,
  ],
  [
    'VCEK twice',
    (d) => {
      d.chain = (x) => [pemChain(x)[1]!, pemChain(x)[1]!];
    },
    'malformed snp.certificates',
  ],
  [
    'ARK in place of ASK, VCEK of the ARK',
    (d) => {
      d.certificates.vcek.signer = d.keys('sev-root');
      d.certificates.vcek.issuer = d.certificates.ark.subject;
      d.chain = (x) => [writeCertificate(x.certificates.ark), writeCertificate(x.certificates.vcek)];
    },
    'chain-invalid snp.chain-links',
  ],
  [
    'VCEK right under the ARK',
    (d) => {
      d.certificates.vcek.signer = d.keys('sev-root');
      d.certificates.vcek.issuer = d.certificates.ark.subject;
    },
    'chain-invalid snp.chain-links',
  ],
  [
    'ASK is no certificate',
    (d) => {
      d.chain = (x) => [utf8('x'), pemChain(x)[1]!];
    },
    'malformed snp.certificates',
  ],
  [
    'VCEK expired by a second',
    (d) => {
      d.certificates.vcek.notAfter = d.now - 1;
    },
    'expired snp.chain',
  ],
  [
    'VCEK in its last second',
    (d) => {
      d.certificates.vcek.notAfter = d.now;
    },
    'good UpToDate',
  ],
  [
    'VCEK not yet valid',
    (d) => {
      d.certificates.vcek.notBefore = d.now + 1;
    },
    'not-yet-valid snp.chain',
  ],
  [
    'ASK expired',
    (d) => {
      d.certificates.ask.notAfter = d.now - 1;
    },
    'expired snp.chain',
  ],
  [
    'ASK not yet valid',
    (d) => {
      d.certificates.ask.notBefore = d.now + 1;
    },
    'not-yet-valid snp.chain',
  ],
  [
    'ARK expired',
    (d) => {
      d.certificates.ark.notAfter = d.now - 1;
    },
    'expired snp.chain',
  ],
  ['VCEK is a CA', (d) => setCa(d.certificates.vcek, true), 'chain-invalid snp.chain'],
  [
    'VCEK may sign certificates',
    (d) => setUsage(d.certificates.vcek, USAGE.sign | USAGE.certificates),
    'chain-invalid snp.chain',
  ],
  ['VCEK may only encipher', (d) => setUsage(d.certificates.vcek, USAGE.encipher), 'chain-invalid snp.chain'],
  [
    'VCEK key that is no point',
    (d) => {
      d.certificates.vcek.spki = Uint8Array.from(d.certificates.vcek.spki, (byte, i) =>
        i === 60 ? byte ^ 1 : byte,
      );
    },
    'malformed snp.signature',
  ],
  [
    'VCEK of P-256',
    (d) => {
      const key = d.keys('tdx-att');
      d.certificates.vcek.spki = key.spki;
    },
    'signature-invalid snp.signature',
  ],
  [
    'VCEK signed with P-256',
    (d) => {
      const key = d.keys('tdx-root');
      d.certificates.ask.spki = key.spki;
      d.certificates.vcek.signer = key;
    },
    'chain-invalid snp.chain-links',
  ],
  [
    'VCEK by another key',
    (d) => {
      d.certificates.vcek.signer = d.keys('sev-other');
    },
    'signature-invalid snp.chain',
  ],
  [
    'VCEK of another issuer',
    (d) => {
      d.certificates.vcek.issuer = commonName('Other');
    },
    'chain-invalid snp.chain',
  ],
  [
    'VCEK with an unknown critical extension',
    (d) => setExtension(d.certificates.vcek, '1.2.3.4', fromHex('0500')),
    'unsupported snp.chain',
  ],
  [
    'ASK by another key',
    (d) => {
      d.certificates.ask.signer = d.keys('sev-other');
    },
    'signature-invalid snp.chain',
  ],
  ['ASK is no CA', (d) => setCa(d.certificates.ask, false), 'chain-invalid snp.chain'],
  [
    'ASK without constraints',
    (d) => setExtension(d.certificates.ask, OID.basicConstraints),
    'chain-invalid snp.chain',
  ],
  ['ASK without keyCertSign', (d) => setUsage(d.certificates.ask, USAGE.sign), 'chain-invalid snp.chain'],
  ['ASK with path length 0', (d) => setCa(d.certificates.ask, true, 0), 'good UpToDate'],
  ['ARK with path length 0', (d) => setCa(d.certificates.ark, true, 0), 'chain-invalid snp.chain'],
  [
    'VCEK of this TCB and chip',
    (d) => {
      svn(d, '1', 4);
      svn(d, '2', 0);
      svn(d, '3', 0x18);
      svn(d, '8', 0xdb);
      chip(d, d.report.slice(SNP.chipId, SNP.chipId + 64));
    },
    'good UpToDate',
  ],
  ['VCEK of another boot loader', (d) => svn(d, '1', 5), 'mismatch snp.vcek-bootLoader'],
  ['VCEK of another TEE', (d) => svn(d, '2', 1), 'mismatch snp.vcek-tee'],
  ['VCEK of another SNP firmware', (d) => svn(d, '3', 0x17), 'mismatch snp.vcek-snp'],
  ['VCEK of another microcode', (d) => svn(d, '8', 0xda), 'mismatch snp.vcek-microcode'],
  ['VCEK of an SVN of 260', (d) => svn(d, '1', 260), 'mismatch snp.vcek-bootLoader'],
  ['VCEK of another chip', (d) => chip(d, new Uint8Array(64).fill(1)), 'mismatch snp.vcek-chip-id'],
  [
    'VCEK of a chip of 63 bytes',
    (d) => chip(d, d.report.slice(SNP.chipId, SNP.chipId + 63)),
    'mismatch snp.vcek-chip-id',
  ],
];

const member =
  (change: (document: Record<string, unknown>) => void) =>
  (d: SnpDraft): void => {
    const document = JSON.parse(d.mrConfig) as Record<string, unknown>;
    change(document);
    setMrConfig(d, JSON.stringify(document));
  };
const MR_CONFIG: readonly SnpRow[] = [
  [
    'HOST_DATA zero',
    (d) => {
      d.report.fill(0, SNP.hostData, SNP.hostData + 32);
    },
    'mismatch snp.host-data',
  ],
  [
    'document changed',
    (d) => {
      d.mrConfig = d.mrConfig.replace('"kms"', '"tpm"');
      d.config.mr_config = d.mrConfig;
    },
    'mismatch snp.host-data',
  ],
  ['document empty', (d) => setMrConfig(d, ''), 'malformed snp.mr-config'],
  ['document is a list', (d) => setMrConfig(d, '[]'), 'malformed snp.mr-config'],
  ['document null', (d) => setMrConfig(d, 'null'), 'malformed snp.mr-config'],
  [
    'unknown member',
    member((m) => {
      m['extra'] = 1;
    }),
    'malformed snp.mr-config',
  ],
  [
    'member twice',
    (d) => setMrConfig(d, d.mrConfig.replace('"version":3', '"version":3,"version":3')),
    'malformed snp.mr-config',
  ],
  [
    'compose_hash twice',
    (d) => setMrConfig(d, d.mrConfig.replace('{', `{"compose_hash":"${'11'.repeat(32)}",`)),
    'malformed snp.mr-config',
  ],
  [
    'version 2',
    member((m) => {
      m['version'] = 2;
    }),
    'unsupported snp.mr-config',
  ],
  [
    'version as text',
    member((m) => {
      m['version'] = '3';
    }),
    'malformed snp.mr-config',
  ],
  [
    'version missing',
    member((m) => {
      delete m['version'];
    }),
    'malformed snp.mr-config',
  ],
  [
    'compose_hash missing',
    member((m) => {
      delete m['compose_hash'];
    }),
    'malformed snp.mr-config',
  ],
  [
    'compose_hash of 31 bytes',
    member((m) => {
      m['compose_hash'] = '11'.repeat(31);
    }),
    'malformed snp.mr-config',
  ],
  [
    'compose_hash with 0x',
    member((m) => {
      m['compose_hash'] = `0x${'11'.repeat(32)}`;
    }),
    'malformed snp.mr-config',
  ],
  [
    'app_id of 19 bytes',
    member((m) => {
      m['app_id'] = '11'.repeat(19);
    }),
    'malformed snp.mr-config',
  ],
  [
    'app_id a number',
    member((m) => {
      m['app_id'] = 11;
    }),
    'malformed snp.mr-config',
  ],
  [
    'instance_id of 21 bytes',
    member((m) => {
      m['instance_id'] = '11'.repeat(21);
    }),
    'malformed snp.mr-config',
  ],
  [
    'instance_id missing',
    member((m) => {
      delete m['instance_id'];
    }),
    'good UpToDate',
  ],
  [
    'key_provider missing',
    member((m) => {
      delete m['key_provider'];
    }),
    'malformed snp.mr-config',
  ],
  [
    'key_provider a number',
    member((m) => {
      m['key_provider'] = 2;
    }),
    'malformed snp.mr-config',
  ],
  [
    'key_provider unknown',
    member((m) => {
      m['key_provider'] = 'cloud';
    }),
    'malformed snp.mr-config',
  ],
  [
    'key_provider_id no hex',
    member((m) => {
      m['key_provider_id'] = 'zz';
    }),
    'malformed snp.mr-config',
  ],
  [
    'init_script_hashes',
    member((m) => {
      m['init_script_hashes'] = ['11'.repeat(32)];
    }),
    'good UpToDate',
  ],
  [
    'init_script_hashes no hex',
    member((m) => {
      m['init_script_hashes'] = ['x'];
    }),
    'malformed snp.mr-config',
  ],
  [
    'init_script_hashes a text',
    member((m) => {
      m['init_script_hashes'] = '11'.repeat(32);
    }),
    'malformed snp.mr-config',
  ],
  [
    'gpu_policy_hash',
    member((m) => {
      m['gpu_policy_hash'] = '11'.repeat(32);
    }),
    'good UpToDate',
  ],
  [
    'gpu_policy_hash no hex',
    member((m) => {
      m['gpu_policy_hash'] = 'x';
    }),
    'malformed snp.mr-config',
  ],
  [
    'gpu_policy_hash a number',
    member((m) => {
      m['gpu_policy_hash'] = 1;
    }),
    'malformed snp.mr-config',
  ],
  [
    'config has no document',
    (d) => {
      delete d.config.mr_config;
    },
    'good UpToDate',
  ],
  [
    'config has another document',
    (d) => {
      d.config.mr_config = `${d.mrConfig} `;
    },
    'mismatch image.sev-snp',
  ],
  [
    'config has a number for a document',
    (d) => {
      d.config.mr_config = 1;
    },
    'malformed image.sev-snp',
  ],
];

function setDocument(
  d: SnpDraft,
  change: (document: Uint8Array) => Uint8Array,
  name = 'measurement.snp.cbor',
  lines = 1,
): void {
  const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
  const document = change(fromBase64(d.measurement.measurement));
  const checksums = utf8(`${sha256(document)}  ${name}\n`.repeat(lines));
  d.measurement.measurement = toBase64(document);
  d.measurement.checksum_file = toBase64(checksums);
  d.config.os_image_hash = sha256(checksums);
}
/** Changes one byte after the name of a member. */
const afterName =
  (name: string, skip: number) =>
  (document: Uint8Array): Uint8Array => {
    const at = toHex(document).indexOf(toHex(utf8(name))) / 2 + name.length + skip;
    document[at]! ^= 1;
    return document;
  };
const IMAGE: readonly SnpRow[] = [
  ['document anew', (d) => setDocument(d, (x) => x), 'good UpToDate'],
  ['document listed twice', (d) => setDocument(d, (x) => x, undefined, 2), 'image image.sev-snp'],
  [
    'document under another name',
    (d) => setDocument(d, (x) => x, 'measurement.tdx.cbor'),
    'image image.sev-snp',
  ],
  [
    'document with a byte more',
    (d) => setDocument(d, (x) => concatBytes(x, Uint8Array.of(0))),
    'malformed image.sev-snp',
  ],
  ...['ovmf_hash', 'kernel_hash', 'initrd_hash'].map(
    (name): SnpRow => [
      `document of another ${name}`,
      (d) => setDocument(d, afterName(name, 2)),
      'image image.sev-snp',
    ],
  ),
  [
    'document of another command line',
    (d) => setDocument(d, afterName('console=ttyS', 0)),
    'image image.sev-snp',
  ],
  [
    'document of another reset vector',
    (d) => setDocument(d, afterName('reset_eip', 4)),
    'image image.sev-snp',
  ],
  [
    'document of another table address',
    (d) => setDocument(d, afterName('hashes_table_gpa', 4)),
    'image image.sev-snp',
  ],
  [
    'document without rootfs hash',
    (d) => setDocument(d, afterName('dstack.rootfs_has', 0)),
    'image image.sev-snp',
  ],
  ['document of version 2', (d) => setDocument(d, afterName('version', 0)), 'unsupported image.sev-snp'],
  [
    'vcpus 0',
    (d) => {
      d.measurement.vcpus = 0;
    },
    'image image.sev-snp',
  ],
  [
    'vcpus 513',
    (d) => {
      d.measurement.vcpus = 513;
    },
    'image image.sev-snp',
  ],
  [
    'vcpus one less',
    (d) => {
      d.measurement.vcpus -= 1;
    },
    'image image.sev-snp',
  ],
  [
    'vcpus a text',
    (d) => {
      d.measurement.vcpus = '2';
    },
    'malformed image.sev-snp',
  ],
  [
    'vcpus missing',
    (d) => {
      delete d.measurement.vcpus;
    },
    'malformed image.sev-snp',
  ],
  [
    'vcpu_type of another model',
    (d) => {
      d.measurement.vcpu_type = 'EPYC-Genoa';
    },
    'image image.sev-snp',
  ],
  [
    'vcpu_type in small letters',
    (d) => {
      d.measurement.vcpu_type = d.measurement.vcpu_type.toLowerCase();
    },
    'good UpToDate',
  ],
  [
    'vcpu_type unknown',
    (d) => {
      d.measurement.vcpu_type = 'EPYC-Naples';
    },
    'image image.sev-snp',
  ],
  [
    'guest_features',
    (d) => {
      d.measurement.guest_features = 5;
    },
    'image image.sev-snp',
  ],
  [
    'guest_features negative',
    (d) => {
      d.measurement.guest_features = -1;
    },
    'malformed image.sev-snp',
  ],
  [
    'guest_features missing',
    (d) => {
      delete d.measurement.guest_features;
    },
    'malformed image.sev-snp',
  ],
  [
    'unknown member',
    (d) => {
      d.measurement.ovmf_sections = [];
    },
    'image image.sev-snp',
  ],
  [
    'measurement no text',
    (d) => {
      d.measurement = 7;
    },
    'image image.sev-snp',
  ],
  [
    'measurement null',
    (d) => {
      d.measurement = null;
    },
    'image image.sev-snp',
  ],
  ['MEASUREMENT of another launch', set('measurement', 1), 'image image.sev-snp'],
  [
    'os_image_hash',
    (d) => {
      d.config.os_image_hash = '11'.repeat(32);
    },
    'image image.sev-snp',
  ],
  [
    'no config',
    (d) => {
      d.config = '';
    },
    'image image.sev-snp',
  ],
  [
    'config in a sys-config',
    (d) => {
      d.config = JSON.stringify({
        vm_config: JSON.stringify({ ...d.config, sev_snp_measurement: JSON.stringify(d.measurement) }),
      });
    },
    'good UpToDate',
  ],
];

describeWithFixtures('forged SEV-SNP evidence', 'mock-evidence/expected.json', () => {
  for (const rows of [REPORT, POLICY, CHAIN, MR_CONFIG, IMAGE]) forgeTable(snpDraft, sealSnp, rows);
});
