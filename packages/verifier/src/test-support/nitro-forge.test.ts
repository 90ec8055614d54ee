import { createHash } from 'node:crypto';
import { concatBytes, encodeCbor, fromBase64, fromHex, toBase64, utf8 } from '@dstack-cloud/encoding';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { forgeTable, type Row } from './forge-table.ts';
import type { Keys } from './forged.ts';
import {
  commonName,
  OID,
  planOf,
  setCa,
  setExtension,
  setPurpose,
  setUsage,
  USAGE,
  writeCertificate,
} from './forged-certificate.ts';
import { measureNitroTpm, type NitroDraft, nitroDraft, sealNitro } from './nitro-forge.ts';
import { event } from './tdx-forge.ts';

/** Without an attestation around it the same bytes mean something else. */
const ATTESTATION = ['v0', 'v1'] as const;
type NitroRow = Row<NitroDraft>;
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const ZERO = new Uint8Array(48);
const ONE = new Uint8Array(48).fill(1);
const sha256 = (...parts: Uint8Array[]): string =>
  createHash('sha256')
    .update(concatBytes(...parts))
    .digest('hex');
/** Makes the configuration name the image of the PCRs. */
function nameImage(d: NitroDraft): void {
  d.config.os_image_hash = sha256(...[0, 1, 2].map((index) => d.pcrs.get(index) as Uint8Array));
}
const setMember =
  (name: string, value: unknown) =>
  (d: NitroDraft): void => {
    d.members.set(name, value);
  };
const setAge =
  (milliseconds: number) =>
  (d: NitroDraft): void => {
    d.members.set('timestamp', d.now * 1000 - milliseconds);
  };

const COSE: readonly NitroRow[] = [
  [
    'tag 18',
    (d) => {
      d.alterDocument = (b) => concatBytes(Uint8Array.of(0xd2), b);
    },
    'good',
  ],
  [
    'tag 17',
    (d) => {
      d.alterDocument = (b) => concatBytes(Uint8Array.of(0xd1), b);
    },
    'malformed nitro.cose',
  ],
  [
    'tag 18 twice',
    (d) => {
      d.alterDocument = (b) => concatBytes(Uint8Array.of(0xd2, 0xd2), b);
    },
    'malformed nitro.cose',
  ],
  [
    'a byte after the document',
    (d) => {
      d.alterDocument = (b) => concatBytes(b, Uint8Array.of(0));
    },
    'malformed nitro.cose',
  ],
  [
    'a byte less',
    (d) => {
      d.alterDocument = (b) => b.slice(0, -1);
    },
    'malformed nitro.cose',
  ],
  [
    'three elements',
    (d) => {
      d.alterParts = (p) => p.slice(0, 3);
    },
    'malformed nitro.cose',
  ],
  [
    'five elements',
    (d) => {
      d.alterParts = (p) => [...p, null];
    },
    'malformed nitro.cose',
  ],
  [
    'array of indefinite length',
    (d) => {
      d.alterDocument = (b) => concatBytes(Uint8Array.of(0x9f), b.subarray(1), Uint8Array.of(0xff));
    },
    'malformed nitro.cose',
  ],
  [
    'unprotected header no map',
    (d) => {
      d.alterParts = ([h, , p, s]) => [h, [], p, s];
    },
    'malformed nitro.cose',
  ],
  [
    'payload detached',
    (d) => {
      d.alterParts = ([h, u, , s]) => [h, u, null, s];
    },
    'malformed nitro.cose',
  ],
  [
    'protected header with trailing byte',
    (d) => {
      d.alterHeader = (h) => concatBytes(h, Uint8Array.of(0));
    },
    'malformed nitro.cose',
  ],
  [
    'protected header empty',
    (d) => {
      d.alterHeader = () => new Uint8Array(0);
    },
    'malformed nitro.cose',
  ],
  [
    'protected header is a list',
    (d) => {
      d.alterHeader = () => encodeCbor([1, -35]);
    },
    'malformed nitro.cose',
  ],
  [
    'algorithm ES256',
    (d) => {
      d.header.set(1, -7);
    },
    'unsupported nitro.cose',
  ],
  [
    'algorithm ES512',
    (d) => {
      d.header.set(1, -36);
    },
    'unsupported nitro.cose',
  ],
  [
    'algorithm missing',
    (d) => {
      d.header.delete(1);
    },
    'unsupported nitro.cose',
  ],
  [
    'algorithm in the unprotected header',
    (d) => {
      d.header.delete(1);
      d.alterParts = ([h, , p, s]) => [h, new Map([[1, -35]]), p, s];
    },
    'unsupported nitro.cose',
  ],
  [
    'crit lists alg',
    (d) => {
      d.header.set(2, [1]);
    },
    'good',
  ],
  [
    'crit lists content type',
    (d) => {
      d.header.set(2, [1, 3]);
    },
    'unsupported nitro.cose',
  ],
  [
    'crit empty',
    (d) => {
      d.header.set(2, []);
    },
    'unsupported nitro.cose',
  ],
  [
    'crit no list',
    (d) => {
      d.header.set(2, 1);
    },
    'unsupported nitro.cose',
  ],
  [
    'crit lists a text',
    (d) => {
      d.header.set(2, ['alg']);
    },
    'unsupported nitro.cose',
  ],
  [
    'signature of another key',
    (d) => {
      d.signer = d.keys('nsm-intermediate');
    },
    'signature-invalid nitro.signature',
  ],
  [
    'signature zero',
    (d) => {
      d.alterParts = ([h, u, p]) => [h, u, p, new Uint8Array(96)];
    },
    'signature-invalid nitro.signature',
  ],
  [
    'signature of 97 bytes',
    (d) => {
      d.alterParts = ([h, u, p, s]) => [h, u, p, concatBytes(s as Uint8Array, Uint8Array.of(0))];
    },
    'malformed nitro.cose',
  ],
  [
    'payload with a byte more, signed',
    (d) => {
      d.alterPayload = (p) => concatBytes(p, Uint8Array.of(0));
    },
    'malformed nitro.document',
  ],
  [
    'payload is a list',
    (d) => {
      d.alterPayload = () => encodeCbor([1]);
    },
    'malformed nitro.document',
  ],
  [
    'payload empty',
    (d) => {
      d.alterPayload = () => new Uint8Array(0);
    },
    'malformed nitro.document',
  ],
  [
    'payload of definite length',
    (d) => {
      d.indefinite = false;
    },
    'good',
  ],
  [
    'payload with a member twice',
    (d) => {
      d.alterPayload = (p) =>
        concatBytes(p.slice(0, -1), encodeCbor('digest'), encodeCbor('SHA384'), Uint8Array.of(0xff));
    },
    'malformed nitro.document',
  ],
  [
    'payload nested 100 deep',
    (d) => {
      d.alterPayload = () => new Uint8Array(100).fill(0x81);
    },
    'malformed nitro.document',
  ],
  [
    'header changed after signing',
    (d) => {
      d.alterParts = ([, u, p, s]) => [
        encodeCbor(
          new Map<unknown, unknown>([
            [1, -35],
            [4, 1],
          ]),
        ),
        u,
        p,
        s,
      ];
    },
    'signature-invalid nitro.signature',
  ],
];

const RULES: readonly NitroRow[] = [
  ['digest SHA512', setMember('digest', 'SHA512'), 'unsupported nitro.document'],
  ['digest in small letters', setMember('digest', 'sha384'), 'unsupported nitro.document'],
  [
    'digest missing',
    (d) => {
      d.members.delete('digest');
    },
    'unsupported nitro.document',
  ],
  ['module_id empty', setMember('module_id', ''), 'malformed nitro.document'],
  [
    'module_id missing',
    (d) => {
      d.members.delete('module_id');
    },
    'malformed nitro.document',
  ],
  ['module_id bytes', setMember('module_id', utf8('i-1-enc2')), 'malformed nitro.document'],
  ['timestamp 0', setMember('timestamp', 0), 'malformed nitro.document'],
  ['timestamp negative', setMember('timestamp', -1), 'malformed nitro.document'],
  ['timestamp text', setMember('timestamp', '1781524700123'), 'malformed nitro.document'],
  ['timestamp of 2^63', setMember('timestamp', 2n ** 63n), 'malformed nitro.document'],
  [
    'timestamp missing',
    (d) => {
      d.members.delete('timestamp');
    },
    'malformed nitro.document',
  ],
  ['timestamp in seconds', setMember('timestamp', 1781524700), 'expired nitro.freshness'],
  ['300 s old', setAge(300_000), 'good'],
  ['300 s and a millisecond old', setAge(300_001), 'expired nitro.freshness'],
  ['an hour old', setAge(3_600_000), 'expired nitro.freshness'],
  ['300 s ahead', setAge(-300_000), 'good'],
  ['300 s and a millisecond ahead', setAge(-300_001), 'not-yet-valid nitro.freshness'],
  [
    'no PCRs',
    (d) => {
      d.pcrs.clear();
    },
    'malformed nitro.document',
  ],
  [
    'PCRs missing',
    (d) => {
      d.members.delete('pcrs');
    },
    'malformed nitro.document',
  ],
  ['PCRs a list', setMember('pcrs', [ONE, ONE, ONE]), 'malformed nitro.document'],
  [
    'PCRs under the key of NitroTPM',
    (d) => {
      d.members.delete('pcrs');
      d.members.set('nitrotpm_pcrs', d.pcrs);
    },
    'malformed nitro.document',
    ATTESTATION,
  ],
  [
    'PCR 32',
    (d) => {
      d.pcrs.set(32, ONE);
    },
    'malformed nitro.document',
  ],
  [
    'PCR -1',
    (d) => {
      d.pcrs.set(-1, ONE);
    },
    'malformed nitro.document',
  ],
  [
    'PCR 31',
    (d) => {
      d.pcrs.set(31, ONE);
    },
    'good',
  ],
  [
    'PCR by text',
    (d) => {
      d.pcrs.set('3', ONE);
    },
    'malformed nitro.document',
  ],
  [
    'PCR of 32 bytes',
    (d) => {
      d.pcrs.set(3, new Uint8Array(32));
    },
    'malformed nitro.document',
  ],
  [
    'PCR of 64 bytes',
    (d) => {
      d.pcrs.set(3, new Uint8Array(64));
    },
    'malformed nitro.document',
  ],
  [
    'PCR of 49 bytes',
    (d) => {
      d.pcrs.set(15, new Uint8Array(49));
    },
    'malformed nitro.document',
  ],
  [
    'PCR empty',
    (d) => {
      d.pcrs.set(15, new Uint8Array(0));
    },
    'malformed nitro.document',
  ],
  [
    'PCR 0 missing',
    (d) => {
      d.pcrs.delete(0);
    },
    'malformed nitro.image-pcrs',
  ],
  [
    'PCR 1 missing',
    (d) => {
      d.pcrs.delete(1);
    },
    'malformed nitro.image-pcrs',
  ],
  [
    'PCR 2 missing',
    (d) => {
      d.pcrs.delete(2);
    },
    'malformed nitro.image-pcrs',
  ],
  [
    'PCR 0 zero',
    (d) => {
      d.pcrs.set(0, ZERO);
      nameImage(d);
    },
    'debug nitro.debug',
  ],
  [
    'PCR 1 zero',
    (d) => {
      d.pcrs.set(1, ZERO);
      nameImage(d);
    },
    'debug nitro.debug',
  ],
  [
    'PCR 2 zero',
    (d) => {
      d.pcrs.set(2, ZERO);
      nameImage(d);
    },
    'debug nitro.debug',
  ],
  [
    'PCR 0 to 2 zero',
    (d) => {
      for (const i of [0, 1, 2]) d.pcrs.set(i, ZERO);
      d.config.os_image_hash = '00'.repeat(32);
    },
    'debug nitro.debug',
  ],
  [
    'PCR 3 and 4 zero',
    (d) => {
      d.pcrs.set(3, ZERO);
      d.pcrs.set(4, ZERO);
    },
    'good',
  ],
  ['nonce of 512 bytes', setMember('nonce', new Uint8Array(512)), 'good'],
  ['nonce of 513 bytes', setMember('nonce', new Uint8Array(513)), 'malformed nitro.document'],
  ['nonce text', setMember('nonce', 'x'), 'malformed nitro.document'],
  [
    'nonce missing',
    (d) => {
      d.members.delete('nonce');
    },
    'good',
  ],
  ['public_key of 1024 bytes', setMember('public_key', new Uint8Array(1024)), 'good'],
  ['public_key of 1025 bytes', setMember('public_key', new Uint8Array(1025)), 'malformed nitro.document'],
  ['public_key empty', setMember('public_key', new Uint8Array(0)), 'malformed nitro.document'],
  [
    'user_data missing',
    (d) => {
      d.members.delete('user_data');
    },
    'mismatch nitro.user-data',
  ],
  [
    'user_data null, report data zero',
    (d) => {
      d.members.set('user_data', null);
      d.reportData = new Uint8Array(64);
    },
    'mismatch nitro.user-data',
  ],
  [
    'user_data empty, report data zero',
    (d) => {
      d.members.set('user_data', new Uint8Array(0));
      d.reportData = new Uint8Array(64);
    },
    'mismatch nitro.user-data',
  ],
  ['user_data of 513 bytes', setMember('user_data', new Uint8Array(513)), 'malformed nitro.document'],
  [
    'user_data of 63 bytes',
    (d) => {
      d.members.set('user_data', d.reportData.slice(0, 63));
    },
    'mismatch nitro.user-data',
  ],
  [
    'user_data with a byte more',
    (d) => {
      d.members.set('user_data', concatBytes(d.reportData, Uint8Array.of(0)));
    },
    'mismatch nitro.user-data',
  ],
  [
    'user_data of another challenge',
    setMember('user_data', new Uint8Array(64).fill(3)),
    'mismatch nitro.user-data',
  ],
  [
    'report data of another challenge',
    (d) => {
      d.reportData = new Uint8Array(64).fill(3);
    },
    'mismatch nitro.user-data',
  ],
  [
    'byte fields as lists of integers',
    (d) => {
      for (const [i, v] of d.pcrs) d.pcrs.set(i, [...(v as Uint8Array)]);
      d.members.set('user_data', [...d.reportData]);
      d.members.set('certificate', [...writeCertificate(d.certificates.leaf)]);
      d.members.set(
        'cabundle',
        (['root', 'intermediate'] as const).map((n) => [...writeCertificate(d.certificates[n])]),
      );
    },
    'good',
  ],
  [
    'a list with 256 in it',
    (d) => {
      d.members.set('user_data', [256, ...d.reportData.slice(1)]);
    },
    'malformed nitro.document',
  ],
  [
    'a list with -1 in it',
    (d) => {
      d.members.set('user_data', [-1, ...d.reportData.slice(1)]);
    },
    'malformed nitro.document',
  ],
  ['certificate missing', setMember('certificate', null), 'malformed nitro.document'],
  ['certificate empty', setMember('certificate', new Uint8Array(0)), 'malformed nitro.document'],
  [
    'certificate of 1025 bytes',
    (d) => setExtension(d.certificates.leaf, '1.2.3.4', new Uint8Array(700), false),
    'malformed nitro.document',
  ],
  [
    'certificate with a byte more',
    (d) => {
      d.members.set('certificate', concatBytes(writeCertificate(d.certificates.leaf), Uint8Array.of(0)));
    },
    'malformed nitro.certificates',
  ],
  ['cabundle empty', setMember('cabundle', []), 'malformed nitro.document'],
  ['cabundle missing', setMember('cabundle', null), 'malformed nitro.document'],
  [
    'cabundle with an empty entry',
    (d) => {
      d.cabundle.push(new Uint8Array(0));
    },
    'malformed nitro.document',
  ],
  [
    'cabundle of nine',
    (d) => {
      d.cabundle = Array.from({ length: 9 }, () => 'root');
    },
    'too-large nitro.document',
  ],
];

/** One more certificate between intermediate and leaf. */
function addIntermediate(d: NitroDraft): Uint8Array {
  const key = d.keys('nsm-second');
  const plan = planOf(
    writeCertificate({ ...d.certificates.intermediate }),
    key.spki,
    d.keys('nsm-intermediate'),
  );
  plan.issuer = d.certificates.intermediate.subject;
  plan.subject = commonName('second');
  d.certificates.leaf.signer = key;
  d.certificates.leaf.issuer = plan.subject;
  return writeCertificate(plan);
}
const CHAIN: readonly NitroRow[] = [
  [
    'leaf expired by a second',
    (d) => {
      d.certificates.leaf.notAfter = d.now - 1;
    },
    'expired nitro.chain',
  ],
  [
    'leaf in its last second',
    (d) => {
      d.certificates.leaf.notAfter = d.now;
    },
    'good',
  ],
  [
    'leaf not yet valid',
    (d) => {
      d.certificates.leaf.notBefore = d.now + 1;
    },
    'not-yet-valid nitro.chain',
  ],
  ['leaf is a CA', (d) => setCa(d.certificates.leaf, true), 'chain-invalid nitro.chain'],
  ['leaf with constraints of no CA', (d) => setCa(d.certificates.leaf, false), 'good'],
  [
    'leaf may only encipher',
    (d) => setUsage(d.certificates.leaf, USAGE.encipher),
    'chain-invalid nitro.leaf-usage',
  ],
  [
    'leaf may sign certificates',
    (d) => setUsage(d.certificates.leaf, USAGE.sign | USAGE.certificates),
    'chain-invalid nitro.chain',
  ],
  ['leaf may sign', (d) => setUsage(d.certificates.leaf, USAGE.sign), 'good'],
  ['leaf for clients', (d) => setPurpose(d.certificates.leaf, CLIENT_AUTH), 'good'],
  ['leaf for servers', (d) => setPurpose(d.certificates.leaf, SERVER_AUTH), 'chain-invalid nitro.chain'],
  [
    'leaf with an unknown critical extension',
    (d) => setExtension(d.certificates.leaf, '1.2.3.4', fromHex('0500')),
    'unsupported nitro.chain',
  ],
  [
    'leaf by another key',
    (d) => {
      d.certificates.leaf.signer = d.keys('nsm-other');
    },
    'signature-invalid nitro.chain',
  ],
  [
    'leaf of another issuer',
    (d) => {
      d.certificates.leaf.issuer = commonName('Other');
    },
    'chain-invalid nitro.chain',
  ],
  [
    'leaf key that is no point',
    (d) => {
      d.certificates.leaf.spki = Uint8Array.from(d.certificates.leaf.spki, (byte, i) =>
        i === 60 ? byte ^ 1 : byte,
      );
    },
    'malformed nitro.chain-keys',
  ],
  [
    'leaf key of P-256',
    (d) => {
      const key = d.keys('tdx-att');
      d.certificates.leaf.spki = key.spki;
    },
    'unsupported nitro.chain-keys',
  ],
  [
    'leaf signed with P-256 by its issuer',
    (d) => {
      const key = d.keys('tdx-root');
      d.certificates.intermediate.spki = key.spki;
      d.certificates.leaf.signer = key;
    },
    'unsupported nitro.chain-keys',
  ],
  [
    'leaf right under the root',
    (d) => {
      d.certificates.leaf.signer = d.keys('nsm-root');
      d.certificates.leaf.issuer = d.certificates.root.subject;
      d.cabundle = ['root'];
    },
    'good',
  ],
  [
    'intermediate expired',
    (d) => {
      d.certificates.intermediate.notAfter = d.now - 1;
    },
    'expired nitro.chain',
  ],
  [
    'intermediate not yet valid',
    (d) => {
      d.certificates.intermediate.notBefore = d.now + 1;
    },
    'not-yet-valid nitro.chain',
  ],
  ['intermediate is no CA', (d) => setCa(d.certificates.intermediate, false), 'chain-invalid nitro.chain'],
  [
    'intermediate without constraints',
    (d) => setExtension(d.certificates.intermediate, OID.basicConstraints),
    'chain-invalid nitro.chain',
  ],
  [
    'intermediate without keyCertSign',
    (d) => setUsage(d.certificates.intermediate, USAGE.sign | USAGE.lists),
    'chain-invalid nitro.chain',
  ],
  [
    'intermediate without key usage',
    (d) => setExtension(d.certificates.intermediate, OID.keyUsage),
    'chain-invalid nitro.chain',
  ],
  [
    'intermediate by another key',
    (d) => {
      d.certificates.intermediate.signer = d.keys('nsm-other');
    },
    'signature-invalid nitro.chain',
  ],
  [
    'intermediate with an unknown critical extension',
    (d) => setExtension(d.certificates.intermediate, '1.2.3.4', fromHex('0500')),
    'unsupported nitro.chain',
  ],
  [
    'intermediate missing',
    (d) => {
      d.cabundle = ['root'];
    },
    'chain-invalid nitro.chain',
  ],
  [
    'root missing',
    (d) => {
      d.cabundle = ['intermediate'];
    },
    'chain-invalid nitro.chain',
  ],
  [
    'order of the cabundle',
    (d) => {
      d.cabundle = ['intermediate', 'root'];
    },
    'chain-invalid nitro.chain',
  ],
  [
    'cabundle[0] another certificate of the anchor',
    (d) => {
      d.cabundle[0] = writeCertificate({ ...d.certificates.root, serial: Uint8Array.of(5) });
    },
    'good',
  ],
  [
    'cabundle[0] another root of the same name',
    (d) => {
      const key = d.keys('nsm-other');
      d.cabundle[0] = writeCertificate({ ...d.certificates.root, spki: key.spki, signer: key });
    },
    'chain-invalid nitro.cabundle-root',
  ],
  [
    'cabundle[0] no certificate',
    (d) => {
      d.cabundle[0] = Uint8Array.of(1, 2, 3);
    },
    'malformed nitro.certificates',
  ],
  [
    'two intermediates under path length 0',
    (d) => {
      d.cabundle = ['root', 'intermediate', addIntermediate(d)];
    },
    'chain-invalid nitro.chain',
  ],
  [
    'two intermediates',
    (d) => {
      setCa(d.certificates.intermediate, true, 1);
      const second = addIntermediate(d);
      d.cabundle = ['root', 'intermediate', second];
    },
    'good',
  ],
  [
    'two intermediates in another order',
    (d) => {
      setCa(d.certificates.intermediate, true, 1);
      const second = addIntermediate(d);
      d.cabundle = ['root', second, 'intermediate'];
    },
    'chain-invalid nitro.cabundle-order',
  ],
  [
    'a stray certificate in the cabundle',
    (d) => {
      const stray = writeCertificate({ ...d.certificates.intermediate, subject: commonName('stray') });
      d.cabundle = ['root', 'intermediate', stray];
    },
    'chain-invalid nitro.cabundle-order',
  ],
  [
    'root expired',
    (d) => {
      d.certificates.root.notAfter = d.now - 1;
    },
    'expired nitro.chain',
  ],
  ['root with path length 0', (d) => setCa(d.certificates.root, true, 0), 'chain-invalid nitro.chain'],
];

const IMAGE: readonly NitroRow[] = [
  [
    'another image',
    (d) => {
      d.config.os_image_hash = '11'.repeat(32);
    },
    'image image.nitro',
  ],
  [
    'hash over hex text',
    (d) => {
      const hex = [0, 1, 2].map((i) => Buffer.from(d.pcrs.get(i) as Uint8Array).toString('hex')).join('');
      d.config.os_image_hash = sha256(utf8(hex));
    },
    'image image.nitro',
  ],
  [
    'hash over hex text and newline',
    (d) => {
      const hex = [0, 1, 2].map((i) => Buffer.from(d.pcrs.get(i) as Uint8Array).toString('hex')).join('');
      d.config.os_image_hash = sha256(utf8(`${hex}\n`));
    },
    'image image.nitro',
  ],
  [
    'hash of PCR 0 alone',
    (d) => {
      d.config.os_image_hash = sha256(d.pcrs.get(0) as Uint8Array);
    },
    'image image.nitro',
  ],
  [
    'zeros for an image that is no debug one',
    (d) => {
      d.config.os_image_hash = '00'.repeat(32);
    },
    'image image.nitro',
  ],
  [
    'other PCRs and their hash',
    (d) => {
      d.pcrs.set(1, ONE);
      nameImage(d);
    },
    'good',
  ],
  [
    'no hash',
    (d) => {
      d.config = {};
    },
    'image image.nitro',
  ],
  [
    'no config',
    (d) => {
      d.config = '';
    },
    'image image.nitro',
  ],
  [
    'app-id of 19 bytes',
    (d) => {
      d.runtimeEvents = [event('app-id', '11'.repeat(19))];
    },
    'event-log app.info',
  ],
  [
    'app-id twice',
    (d) => {
      d.runtimeEvents = [...d.runtimeEvents, ...d.runtimeEvents];
    },
    'event-log app.info',
  ],
  [
    'no events',
    (d) => {
      d.runtimeEvents = [];
    },
    'good',
  ],
];

const nsm = (keys: Keys): NitroDraft => nitroDraft(keys, 'nsm');
describeWithFixtures('forged Nitro documents', 'mock-evidence/expected.json', () => {
  for (const rows of [COSE, RULES, CHAIN, IMAGE]) forgeTable(nsm, sealNitro, rows);
});

const BOOT = [4, 7, 12];
function setDocument(d: NitroDraft, document: Uint8Array, name = 'measurement.aws.cbor', lines = 1): void {
  const checksums = utf8(`${sha256(document)}  ${name}\n`.repeat(lines));
  d.config.aws_measurement = { measurement: toBase64(document), checksum_file: toBase64(checksums) };
  d.config.os_image_hash = sha256(checksums);
}
const documentOf = (d: NitroDraft): Uint8Array => fromBase64(d.config.aws_measurement.measurement);
const NITRO_TPM: readonly NitroRow[] = [
  [
    'PCRs under the key of enclaves',
    (d) => {
      d.members.delete('nitrotpm_pcrs');
      d.members.set('pcrs', d.pcrs);
    },
    'good UpToDate',
  ],
  [
    'PCRs under both keys',
    (d) => {
      d.members.set('pcrs', d.pcrs);
    },
    'malformed nitro.document',
  ],
  [
    'PCRs under neither',
    (d) => {
      d.members.delete('nitrotpm_pcrs');
    },
    'malformed nitro.document',
  ],
  ...[...BOOT, 14].map(
    (pcr): NitroRow => [
      `PCR ${pcr} missing`,
      (d) => {
        d.pcrs.delete(pcr);
      },
      'malformed nitro-tpm.pcrs',
    ],
  ),
  ...BOOT.map(
    (pcr): NitroRow => [
      `PCR ${pcr} of another boot`,
      (d) => {
        d.pcrs.set(pcr, ONE);
      },
      'image image.nitro-tpm',
    ],
  ),
  [
    'a system extension beside the image',
    (d) => {
      d.pcrs.set(13, ONE);
    },
    'event-log image.pcr13',
  ],
  [
    'PCR 14 zero',
    (d) => {
      d.pcrs.set(14, ZERO);
    },
    'mismatch nitro-tpm.pcr14',
  ],
  [
    'PCR 14 of 32 bytes',
    (d) => {
      d.pcrs.set(14, new Uint8Array(32));
    },
    'malformed nitro.document',
  ],
  [
    'PCR 32',
    (d) => {
      d.pcrs.set(32, ONE);
    },
    'malformed nitro.document',
  ],
  [
    'another PCR changed',
    (d) => {
      d.pcrs.set(5, ONE);
    },
    'good UpToDate',
  ],
  [
    'a runtime event more, not measured',
    (d) => {
      d.runtimeEvents.push(event('late'));
    },
    'mismatch nitro-tpm.pcr14',
  ],
  [
    'a runtime event more, measured',
    (d) => {
      d.runtimeEvents.push(event('late'));
      measureNitroTpm(d);
    },
    'good UpToDate',
  ],
  [
    'app-id of 21 bytes',
    (d) => {
      d.runtimeEvents[1] = event('app-id', '11'.repeat(21));
      measureNitroTpm(d);
    },
    'event-log app.info',
  ],
  [
    'compose-hash missing',
    (d) => {
      d.runtimeEvents = d.runtimeEvents.filter((e) => e.event !== 'compose-hash');
      measureNitroTpm(d);
    },
    'event-log app.info',
  ],
  [
    'compose-hash twice',
    (d) => {
      d.runtimeEvents.splice(2, 0, event('compose-hash', '11'.repeat(32)));
      measureNitroTpm(d);
    },
    'event-log app.info',
  ],
  [
    'no events',
    (d) => {
      d.runtimeEvents = [];
      measureNitroTpm(d);
    },
    'event-log app.info',
  ],
  [
    'user_data null',
    (d) => {
      d.members.set('user_data', null);
    },
    'mismatch nitro.user-data',
  ],
  [
    'report data',
    (d) => {
      d.reportData = new Uint8Array(64).fill(9);
    },
    'mismatch nitro.user-data',
  ],
  ['an hour old', setAge(3_600_000), 'expired nitro.freshness'],
  ['301 s ahead', setAge(-301_000), 'not-yet-valid nitro.freshness'],
  [
    'signed by another key',
    (d) => {
      d.signer = d.keys('nsm-other');
    },
    'signature-invalid nitro.signature',
  ],
  [
    'leaf expired',
    (d) => {
      d.certificates.leaf.notAfter = d.now - 1;
    },
    'expired nitro.chain',
  ],
  ['leaf is a CA', (d) => setCa(d.certificates.leaf, true), 'chain-invalid nitro.chain'],
  [
    'intermediate by another key',
    (d) => {
      d.certificates.intermediate.signer = d.keys('nsm-other');
    },
    'signature-invalid nitro.chain',
  ],
  [
    'cabundle[0] another root',
    (d) => {
      const key = d.keys('nsm-other');
      d.cabundle[0] = writeCertificate({ ...d.certificates.root, spki: key.spki, signer: key });
    },
    'chain-invalid nitro.cabundle-root',
  ],
  ['digest SHA256', setMember('digest', 'SHA256'), 'unsupported nitro.document'],
  ['module_id empty', setMember('module_id', ''), 'malformed nitro.document'],
  [
    'trailing byte in the payload',
    (d) => {
      d.alterPayload = (p) => concatBytes(p, Uint8Array.of(0));
    },
    'malformed nitro.document',
  ],
  [
    'crit',
    (d) => {
      d.header.set(2, [33]);
    },
    'unsupported nitro.cose',
  ],
  ['document anew', (d) => setDocument(d, documentOf(d)), 'good UpToDate'],
  [
    'document listed twice',
    (d) => setDocument(d, documentOf(d), 'measurement.aws.cbor', 2),
    'image image.nitro-tpm',
  ],
  [
    'document under another name',
    (d) => setDocument(d, documentOf(d), 'measurement.gcp.cbor'),
    'image image.nitro-tpm',
  ],
  [
    'document of another boot',
    (d) => {
      const x = documentOf(d);
      x[x.length - 1]! ^= 1;
      setDocument(d, x);
    },
    'image image.nitro-tpm',
  ],
  [
    'document with a member more',
    (d) => {
      const x = documentOf(d);
      x[0] = 0xa2;
      setDocument(d, concatBytes(x, fromHex('616101')));
    },
    'malformed image.nitro-tpm',
  ],
  [
    'document of version 1, as newer releases write it',
    (d) =>
      setDocument(d, concatBytes(fromHex('a2'), fromHex('6776657273696f6e01'), documentOf(d).subarray(1))),
    'good UpToDate',
  ],
  [
    'document of version 2',
    (d) =>
      setDocument(d, concatBytes(fromHex('a2'), fromHex('6776657273696f6e02'), documentOf(d).subarray(1))),
    'unsupported image.nitro-tpm',
  ],
  [
    'document with a byte more',
    (d) => setDocument(d, concatBytes(documentOf(d), Uint8Array.of(0))),
    'malformed image.nitro-tpm',
  ],
  [
    'document changed, checksum file not',
    (d) => {
      const x = documentOf(d);
      x[x.length - 1]! ^= 1;
      d.config.aws_measurement.measurement = toBase64(x);
    },
    'image image.nitro-tpm',
  ],
  [
    'checksum file changed',
    (d) => {
      d.config.aws_measurement.checksum_file = toBase64(utf8('x\n'));
    },
    'image image.nitro-tpm',
  ],
  [
    'os_image_hash',
    (d) => {
      d.config.os_image_hash = '11'.repeat(32);
    },
    'image image.nitro-tpm',
  ],
  [
    'no document',
    (d) => {
      delete d.config.aws_measurement;
    },
    'image image.nitro-tpm',
  ],
  [
    'config empty',
    (d) => {
      d.config = '';
    },
    'image image.nitro-tpm',
  ],
];
const nitroTpm = (keys: Keys): NitroDraft => nitroDraft(keys, 'nitro-tpm');
describeWithFixtures('forged NitroTPM documents', 'mock-evidence/expected.json', () => {
  forgeTable(nitroTpm, sealNitro, NITRO_TPM);
});
