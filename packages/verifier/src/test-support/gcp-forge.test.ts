import { createHash, generateKeyPairSync } from 'node:crypto';
import { replayDigests } from '@dstack-cloud/attestation';
import { concatBytes, fromBase64, fromHex, toBase64, utf8 } from '@dstack-cloud/encoding';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { forgeTable, type Row } from './forge-table.ts';
import { commonName, OID, setCa, setExtension, setPurpose, setUsage, USAGE } from './forged-certificate.ts';
import { type GcpDraft, gcpDraft, measureGcp, sealGcp, setPcr, setPcr2, tpmtEcdsa } from './gcp-forge.ts';
import { event, setTd, setTdBit } from './tdx-forge.ts';

type GcpRow = Row<GcpDraft>;
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const EK = '2.23.133.8.1';
const CRL_POINTS = '2.5.29.31';
const SHA256 = 0x000b;
const RSA = generateKeyPairSync('rsa', { modulusLength: 2048 });
const OTHER_RSA = generateKeyPairSync('rsa', { modulusLength: 2048 });
const SEPARATOR = fromHex('df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119');
const APPLICATION = new Uint8Array(32).fill(0xaa);
const CALLING = fromHex('3d6772b4f84ed47595d72a2c4c5ffd15f5bb72c7507fe26f2aaee2c69d5633ba');
const sha256 = (...parts: Uint8Array[]): Uint8Array =>
  new Uint8Array(
    createHash('sha256')
      .update(concatBytes(...parts))
      .digest(),
  );

/** The value of a register after these digests. */
const extended = (...digests: Uint8Array[]): Uint8Array => replayDigests(digests, 'sha256');
const ONE_BOOT_OPTION = extended(CALLING, SEPARATOR);

function useRsa(d: GcpDraft): void {
  d.certificates.ak.spki = new Uint8Array(RSA.publicKey.export({ type: 'spki', format: 'der' }));
  d.rsa = RSA.privateKey;
}
/** Quotes one more register. */
function quoteMore(d: GcpDraft, index: number, value: Uint8Array): void {
  d.pcrValues = [...d.pcrValues, { index, algorithm: 'sha256', value }].sort((a, b) => a.index - b.index);
  d.selections = [{ algorithm: SHA256, pcrs: d.pcrValues.map((pcr) => pcr.index) }];
}
const digestOf = (d: GcpDraft): Uint8Array => sha256(...d.pcrValues.map(({ value }) => value));

const ATTEST: readonly GcpRow[] = [
  [
    'magic',
    (d) => {
      d.magic = 'ff544348';
    },
    'malformed tpm.attest',
  ],
  [
    'attestation of a creation',
    (d) => {
      d.type = '801a';
    },
    'unsupported tpm.attest',
  ],
  [
    'a byte after pcrDigest',
    (d) => {
      d.attestTail = Uint8Array.of(0);
    },
    'malformed tpm.attest',
  ],
  [
    'qualifying data of another quote',
    (d) => {
      d.extraData = sha256(Uint8Array.of(1));
    },
    'mismatch tpm.qualifying-data',
  ],
  [
    'qualifying data empty',
    (d) => {
      d.extraData = new Uint8Array(0);
    },
    'mismatch tpm.qualifying-data',
  ],
  [
    'qualifying data with a byte more',
    (d) => {
      d.extraData = new Uint8Array(33);
    },
    'mismatch tpm.qualifying-data',
  ],
  [
    'qualifying data is the report data',
    (d) => {
      d.extraData = d.tdx.reportData;
    },
    'mismatch tpm.qualifying-data',
  ],
  [
    'safe is 2',
    (d) => {
      d.safe = 2;
    },
    'malformed tpm.attest',
  ],
  [
    'PCR digest',
    (d) => {
      d.pcrDigest = sha256(Uint8Array.of(1));
    },
    'mismatch tpm.pcr-digest',
  ],
  [
    'PCR digest empty',
    (d) => {
      d.pcrDigest = new Uint8Array(0);
    },
    'mismatch tpm.pcr-digest',
  ],
  [
    'PCR digest in descending order',
    (d) => {
      d.pcrDigest = sha256(...d.pcrValues.map(({ value }) => value).reverse());
    },
    'mismatch tpm.pcr-digest',
  ],
  [
    'no selection',
    (d) => {
      d.selections = [];
    },
    'malformed tpm.one-selection',
  ],
  [
    'selection twice',
    (d) => {
      d.selections = [...d.selections, ...d.selections];
    },
    'malformed tpm.one-selection',
  ],
  [
    'selection with an empty one',
    (d) => {
      d.selections = [...d.selections, { algorithm: SHA256, pcrs: [] }];
    },
    'malformed tpm.one-selection',
  ],
  [
    'selection with an empty SHA-1 one',
    (d) => {
      d.selections = [{ algorithm: 4, pcrs: [] }, ...d.selections];
    },
    'malformed tpm.one-selection',
  ],
  [
    'selection empty',
    (d) => {
      d.selections = [{ algorithm: SHA256, pcrs: [] }];
    },
    'mismatch tpm.selection',
  ],
  [
    'SHA-384 bank',
    (d) => {
      d.selections = [{ algorithm: 0x000c, pcrs: [0, 2, 14] }];
    },
    'unsupported tpm.bank',
  ],
  [
    'SHA-1 bank',
    (d) => {
      d.selections = [{ algorithm: 4, pcrs: [0, 2, 14] }];
    },
    'unsupported tpm.bank',
  ],
  [
    'selection of one PCR more',
    (d) => {
      d.selections[0]!.pcrs = [0, 2, 7, 14];
    },
    'mismatch tpm.selection',
  ],
  [
    'selection of one PCR less',
    (d) => {
      d.selections[0]!.pcrs = [0, 14];
    },
    'mismatch tpm.selection',
  ],
  [
    'values in another order',
    (d) => {
      d.pcrValues.reverse();
    },
    'mismatch tpm.selection',
  ],
  [
    'values in another order, digest of the right one',
    (d) => {
      d.pcrDigest = digestOf(d);
      d.pcrValues.reverse();
    },
    'mismatch tpm.selection',
  ],
  [
    'a value twice',
    (d) => {
      d.pcrDigest = digestOf(d);
      d.pcrValues.push(d.pcrValues[2]!);
    },
    'mismatch tpm.selection',
  ],
  [
    'a value that is not quoted',
    (d) => {
      d.pcrDigest = digestOf(d);
      d.pcrValues.push({ index: 15, algorithm: 'sha256', value: APPLICATION });
    },
    'mismatch tpm.selection',
  ],
  [
    'PCR 0 not quoted',
    (d) => {
      d.pcrValues.splice(0, 1);
      d.selections[0]!.pcrs = [2, 14];
    },
    'malformed tpm.required-pcrs',
  ],
  [
    'PCR 2 not quoted',
    (d) => {
      d.pcrValues.splice(1, 1);
      d.selections[0]!.pcrs = [0, 14];
    },
    'malformed tpm.required-pcrs',
  ],
  [
    'PCR 14 not quoted',
    (d) => {
      d.pcrValues.splice(2, 1);
      d.selections[0]!.pcrs = [0, 2];
    },
    'malformed tpm.required-pcrs',
  ],
  [
    'more PCRs quoted',
    (d) => {
      for (const index of [1, 9, 12, 23]) quoteMore(d, index, new Uint8Array(32));
      d.eventLog = d.eventLog.filter(({ pcrIndex }) => ![1, 9, 12, 23].includes(pcrIndex));
    },
    'good UpToDate',
  ],
  [
    'all that our guest quotes, after a boot of the image alone',
    (d) => {
      quoteMore(d, 4, ONE_BOOT_OPTION);
      for (const index of [12, 13]) quoteMore(d, index, new Uint8Array(32));
    },
    'good UpToDate',
  ],
  [
    'an add-on on the ESP: PCR 12 quoted, its event left out of the log',
    (d) => quoteMore(d, 12, extended(APPLICATION)),
    'event-log image.pcr12',
  ],
  [
    'an add-on on the ESP: PCR 12 quoted and in the log',
    (d) => {
      quoteMore(d, 12, extended(APPLICATION));
      d.eventLog.push({ pcrIndex: 12, digest: APPLICATION });
    },
    'event-log image.pcr12',
  ],
  [
    'an add-on on the ESP: PCR 12 not quoted, but in the log',
    (d) => {
      d.eventLog.push({ pcrIndex: 12, digest: APPLICATION });
    },
    'event-log image.pcr12',
  ],
  [
    'an add-on on the ESP: loaded through the firmware, before the kernel',
    (d) => setPcr2(d, ([s, g, u, k]) => [s!, g!, u!, APPLICATION, k!]),
    'event-log image.pcr2-sequence',
  ],
  [
    'a system extension on the ESP: PCR 13 quoted',
    (d) => quoteMore(d, 13, extended(APPLICATION)),
    'event-log image.pcr13',
  ],
  [
    'a system extension on the ESP: PCR 13 not quoted, but in the log',
    (d) => {
      d.eventLog.push({ pcrIndex: 13, digest: APPLICATION });
    },
    'event-log image.pcr13',
  ],
  [
    'a second boot option, after the first came back',
    (d) => quoteMore(d, 4, extended(CALLING, SEPARATOR, CALLING)),
    'event-log tpm.replay-pcr4',
  ],
  [
    'a second boot option, with a log to fit',
    (d) => {
      quoteMore(d, 4, extended(CALLING, SEPARATOR, CALLING));
      d.eventLog.push({ pcrIndex: 4, digest: CALLING });
    },
    'event-log image.pcr4',
  ],
  [
    'an application in PCR 4, with a log to fit',
    (d) => {
      quoteMore(d, 4, extended(CALLING, SEPARATOR, APPLICATION));
      d.eventLog.push({ pcrIndex: 4, digest: APPLICATION });
    },
    'event-log image.pcr4',
  ],
  [
    'an application in PCR 4, without log',
    (d) => {
      quoteMore(d, 4, extended(CALLING, SEPARATOR, APPLICATION));
      d.eventLog = d.eventLog.filter(({ pcrIndex }) => pcrIndex !== 4);
    },
    'event-log image.pcr4',
  ],
  [
    'algorithm sha384 by name',
    (d) => {
      d.pcrValues[1] = { ...d.pcrValues[1]!, algorithm: 'sha384' };
    },
    'unsupported tpm.pcr-algorithm',
  ],
  [
    'algorithm SHA256 in capitals',
    (d) => {
      d.pcrValues[1] = { ...d.pcrValues[1]!, algorithm: 'SHA256' };
    },
    'unsupported tpm.pcr-algorithm',
  ],
  [
    'algorithm empty',
    (d) => {
      d.pcrValues[0] = { ...d.pcrValues[0]!, algorithm: '' };
    },
    'unsupported tpm.pcr-algorithm',
  ],
  [
    'a value of 31 bytes',
    (d) => {
      const all = concatBytes(...d.pcrValues.map(({ value }) => value));
      d.pcrDigest = sha256(all);
      d.pcrValues = [0, 2, 14].map((index, i) => ({
        index,
        algorithm: 'sha256',
        value: all.slice([0, 31, 64][i], [31, 64, 96][i]),
      }));
    },
    'malformed tpm.pcr-values',
  ],
  [
    'platform dstack',
    (d) => {
      d.platform = 0;
    },
    'mismatch tpm.platform',
  ],
  [
    'platform nitro enclave',
    (d) => {
      d.platform = 2;
    },
    'mismatch tpm.platform',
  ],
  [
    'platform aws-ec2',
    (d) => {
      d.platform = 3;
    },
    'mismatch tpm.platform',
  ],
];

const SIGNATURE: readonly GcpRow[] = [
  [
    'signed by the intermediate',
    (d) => {
      d.signer = d.tdx.keys('tpm-intermediate');
    },
    'signature-invalid tpm.signature',
  ],
  [
    'signature algorithm RSASSA on an ECC key',
    (d) => {
      d.rsa = RSA.privateKey;
    },
    'signature-invalid tpm.signature',
  ],
  ['RSASSA key', useRsa, 'good UpToDate'],
  [
    'RSASSA by another key',
    (d) => {
      useRsa(d);
      d.rsa = OTHER_RSA.privateKey;
    },
    'signature-invalid tpm.signature',
  ],
  [
    'ECDSA on an RSA key',
    (d) => {
      useRsa(d);
      delete d.rsa;
    },
    'signature-invalid tpm.signature',
  ],
  [
    'RSASSA with session bytes',
    (d) => {
      useRsa(d);
      d.alterSignature = (s) => concatBytes(s, new Uint8Array(5));
    },
    'good UpToDate',
  ],
  [
    'signature hash SHA-1',
    (d) => {
      d.alterSignature = (s) => {
        s[3] = 4;
        return s;
      };
    },
    'unsupported tpm.signature-form',
  ],
  [
    'signature hash SHA-384',
    (d) => {
      d.alterSignature = (s) => {
        s[3] = 0x0c;
        return s;
      };
    },
    'unsupported tpm.signature-form',
  ],
  [
    'signature algorithm ECDAA',
    (d) => {
      d.alterSignature = (s) => {
        s[1] = 0x1a;
        return s;
      };
    },
    'unsupported tpm.signature-form',
  ],
  [
    'five session bytes',
    (d) => {
      d.alterSignature = (s) => concatBytes(s, fromHex('0000010000'));
    },
    'good UpToDate',
  ],
  [
    'r of zero',
    (d) => {
      d.alterSignature = (s) => tpmtEcdsa(new Uint8Array(0), s.slice(-32));
    },
    'signature-invalid tpm.signature',
  ],
  [
    'r of 33 bytes',
    (d) => {
      d.alterSignature = (s) => tpmtEcdsa(concatBytes(Uint8Array.of(0), s.slice(6, 38)), s.slice(-32));
    },
    'malformed tpm.signature-form',
  ],
  [
    'r cut on the right',
    (d) => {
      d.alterSignature = (s) => tpmtEcdsa(s.slice(6, 37), s.slice(-32));
    },
    'signature-invalid tpm.signature',
  ],
  [
    'signature cut',
    (d) => {
      d.alterSignature = (s) => s.slice(0, -1);
    },
    'malformed tpm.signature-form',
  ],
  [
    'signature empty',
    (d) => {
      d.alterSignature = () => new Uint8Array(0);
    },
    'malformed tpm.signature-form',
  ],
];

const CHAIN: readonly GcpRow[] = [
  [
    'key for encipherment only',
    (d) => setUsage(d.certificates.ak, USAGE.encipher),
    'chain-invalid tpm.ak-usage',
  ],
  [
    'key without key usage',
    (d) => setExtension(d.certificates.ak, OID.keyUsage),
    'chain-invalid tpm.ak-usage',
  ],
  [
    'key may sign certificates',
    (d) => setUsage(d.certificates.ak, USAGE.sign | USAGE.certificates),
    'chain-invalid tpm.ak-chain',
  ],
  ['key is a CA', (d) => setCa(d.certificates.ak, true), 'chain-invalid tpm.ak-chain'],
  ['key with basic constraints of no CA', (d) => setCa(d.certificates.ak, false), 'good UpToDate'],
  ['key with the TCG purpose', (d) => setPurpose(d.certificates.ak, EK), 'good UpToDate'],
  ['key for TLS servers', (d) => setPurpose(d.certificates.ak, SERVER_AUTH), 'chain-invalid tpm.ak-chain'],
  [
    'key expired by a second',
    (d) => {
      d.certificates.ak.notAfter = d.tdx.now - 1;
    },
    'expired tpm.ak-chain',
  ],
  [
    'key in its last second',
    (d) => {
      d.certificates.ak.notAfter = d.tdx.now;
    },
    'good UpToDate',
  ],
  [
    'key not yet valid',
    (d) => {
      d.certificates.ak.notBefore = d.tdx.now + 1;
    },
    'not-yet-valid tpm.ak-chain',
  ],
  [
    'key signed by the root',
    (d) => {
      d.certificates.ak.signer = d.tdx.keys('tpm-root');
    },
    'signature-invalid tpm.ak-chain',
  ],
  [
    'key issued by the root itself',
    (d) => {
      d.certificates.ak.signer = d.tdx.keys('tpm-root');
      d.certificates.ak.issuer = d.certificates.root.subject;
    },
    'good UpToDate',
  ],
  [
    'key of another issuer',
    (d) => {
      d.certificates.ak.issuer = commonName('Other');
    },
    'chain-invalid tpm.ak-chain',
  ],
  [
    'key with an unknown critical extension',
    (d) => setExtension(d.certificates.ak, '1.2.3.4', fromHex('0500')),
    'unsupported tpm.ak-chain',
  ],
  [
    'key with the instance extension',
    (d) => setExtension(d.certificates.ak, '1.3.6.1.4.1.11129.2.1.21', fromHex('3000')),
    'good UpToDate',
  ],
  [
    'intermediate expired',
    (d) => {
      d.certificates.intermediate.notAfter = d.tdx.now - 1;
    },
    'expired tpm.ak-chain',
  ],
  [
    'intermediate not yet valid',
    (d) => {
      d.certificates.intermediate.notBefore = d.tdx.now + 1;
    },
    'not-yet-valid tpm.ak-chain',
  ],
  ['intermediate is no CA', (d) => setCa(d.certificates.intermediate, false), 'chain-invalid tpm.ak-chain'],
  [
    'intermediate without keyCertSign',
    (d) => setUsage(d.certificates.intermediate, USAGE.sign | USAGE.lists),
    'chain-invalid tpm.ak-chain',
  ],
  [
    'intermediate signed by another key',
    (d) => {
      d.certificates.intermediate.signer = d.tdx.keys('other');
    },
    'signature-invalid tpm.ak-chain',
  ],
  [
    'intermediate of another name',
    (d) => {
      d.certificates.intermediate.subject = commonName('Other');
    },
    'chain-invalid tpm.ak-chain',
  ],
  ['root with path length 0', (d) => setCa(d.certificates.root, true, 0), 'chain-invalid tpm.ak-chain'],
  [
    'root expired',
    (d) => {
      d.certificates.root.notAfter = d.tdx.now - 1;
    },
    'expired tpm.ak-chain',
  ],
  [
    'TDX root in place of the vTPM root',
    (d) => {
      d.certificates.root = { ...d.tdx.certificates.root };
    },
    'chain-invalid tpm.ak-chain',
  ],
  [
    'list names the key',
    (d) => {
      d.certificates.ak.serial = Uint8Array.of(91);
      d.crls.intermediate.serials = [Uint8Array.of(91)];
    },
    'revoked tpm.ak-chain',
  ],
  [
    'list names the intermediate',
    (d) => {
      d.certificates.intermediate.serial = Uint8Array.of(92);
      d.crls.root.serials = [Uint8Array.of(92)];
    },
    'revoked tpm.ak-chain',
  ],
  [
    'list of the key expired',
    (d) => {
      d.crls.intermediate.nextUpdate = d.tdx.now;
    },
    'expired tpm.ak-chain',
  ],
  [
    'list of the key in its last second',
    (d) => {
      d.crls.intermediate.nextUpdate = d.tdx.now + 1;
    },
    'good UpToDate',
  ],
  [
    'list of the key from the future',
    (d) => {
      d.crls.intermediate.thisUpdate = d.tdx.now + 1;
    },
    'not-yet-valid tpm.ak-chain',
  ],
  [
    'list of the key by another key',
    (d) => {
      d.crls.intermediate.signer = d.tdx.keys('other');
    },
    'signature-invalid tpm.ak-chain',
  ],
  [
    'list of the key by the root',
    (d) => {
      d.crls.intermediate.signer = d.tdx.keys('tpm-root');
    },
    'signature-invalid tpm.ak-chain',
  ],
  [
    'list of another issuer',
    (d) => {
      d.crls.intermediate.issuer = commonName('Other');
    },
    'revocation-unknown tpm.ak-revocation',
  ],
  [
    'list of the key missing',
    (d) => {
      d.crlList = ['root'];
    },
    'revocation-unknown tpm.ak-revocation',
  ],
  [
    'root list missing',
    (d) => {
      d.crlList = ['intermediate'];
    },
    'revocation-unknown tpm.ak-revocation',
  ],
  [
    'root list expired',
    (d) => {
      d.crls.root.nextUpdate = d.tdx.now;
    },
    'expired tpm.ak-chain',
  ],
  [
    'root list from the future',
    (d) => {
      d.crls.root.thisUpdate = d.tdx.now + 1;
    },
    'not-yet-valid tpm.ak-chain',
  ],
  [
    'root list by another key',
    (d) => {
      d.crls.root.signer = d.tdx.keys('other');
    },
    'signature-invalid tpm.ak-chain',
  ],
  [
    'key names no list and there is none',
    (d) => {
      d.crlList = ['root'];
      setExtension(d.certificates.ak, CRL_POINTS);
    },
    'good UpToDate',
  ],
  [
    'intermediate may not sign lists',
    (d) => setUsage(d.certificates.intermediate, USAGE.sign | USAGE.certificates),
    'chain-invalid tpm.ak-chain',
  ],
];

const LOG: readonly GcpRow[] = [
  [
    'PCR 2: an application after the kernel',
    (d) => setPcr2(d, (all) => [...all, APPLICATION]),
    'event-log image.pcr2-sequence',
  ],
  [
    'PCR 2: an application before the UKI',
    (d) => setPcr2(d, ([s, g, u, k]) => [s!, g!, APPLICATION, u!, k!]),
    'event-log image.pcr2-sequence',
  ],
  [
    'PCR 2: an application before GPT',
    (d) => setPcr2(d, ([s, g, u, k]) => [s!, APPLICATION, g!, u!, k!]),
    'event-log image.pcr2-sequence',
  ],
  ['PCR 2: no separator', (d) => setPcr2(d, ([, g, u, k]) => [g!, u!, k!]), 'event-log image.pcr2-sequence'],
  [
    'PCR 2: another first event',
    (d) => setPcr2(d, ([, g, u, k]) => [APPLICATION, g!, u!, k!]),
    'event-log image.pcr2-sequence',
  ],
  [
    'PCR 2: separator twice',
    (d) => setPcr2(d, ([s, , u, k]) => [s!, SEPARATOR, u!, k!]),
    'event-log image.pcr2-sequence',
  ],
  [
    'PCR 2: separator at the end',
    (d) => setPcr2(d, ([s, g, u]) => [s!, g!, u!, SEPARATOR]),
    'event-log image.pcr2-sequence',
  ],
  ['PCR 2: no GPT', (d) => setPcr2(d, ([s, , u, k]) => [s!, u!, k!]), 'event-log image.pcr2-sequence'],
  ['PCR 2: two events only', (d) => setPcr2(d, ([s, g]) => [s!, g!]), 'event-log image.pcr2-events'],
  ['PCR 2: no events', (d) => setPcr2(d, () => []), 'event-log image.pcr2-events'],
  [
    'PCR 2: another UKI',
    (d) => setPcr2(d, ([s, g, , k]) => [s!, g!, APPLICATION, k!]),
    'image image.gcp-tdx',
  ],
  [
    'PCR 2: UKI twice and no kernel',
    (d) => setPcr2(d, ([s, g, u]) => [s!, g!, u!, u!]),
    'event-log image.pcr2-sequence',
  ],
  [
    'PCR 2 log without its last event',
    (d) => {
      const at = d.eventLog.findLastIndex(({ pcrIndex }) => pcrIndex === 2);
      d.eventLog.splice(at, 1);
    },
    'event-log tpm.replay-pcr2',
  ],
  ['PCR 2 value of another log', (d) => setPcr(d, 2, APPLICATION), 'event-log tpm.replay-pcr2'],
  [
    'PCR 0 value of other firmware, log to fit',
    (d) => {
      const zero = d.eventLog.filter(({ pcrIndex }) => pcrIndex === 0);
      const changed = [{ pcrIndex: 0, digest: APPLICATION }, ...zero.slice(1)];
      d.eventLog = [...changed, ...d.eventLog.filter(({ pcrIndex }) => pcrIndex !== 0)];
      setPcr(
        d,
        0,
        replayDigests(
          changed.map(({ digest }) => digest),
          'sha256',
        ),
      );
    },
    'image image.pcr0',
  ],
  [
    'PCR 0 value of other firmware, no log',
    (d) => {
      d.eventLog = d.eventLog.filter(({ pcrIndex }) => pcrIndex !== 0);
      setPcr(d, 0, APPLICATION);
    },
    'image image.pcr0',
  ],
  [
    'PCR 0 log changed',
    (d) => {
      d.eventLog = d.eventLog.map((e) => (e.pcrIndex === 0 ? { ...e, digest: APPLICATION } : e));
    },
    'event-log tpm.replay-pcr0',
  ],
  [
    'PCR 0 log with an event more',
    (d) => {
      d.eventLog.push({ pcrIndex: 0, digest: APPLICATION });
    },
    'event-log tpm.replay-pcr0',
  ],
  [
    'PCR 0 started at locality 3, other value',
    (d) => {
      const zero = d.eventLog.filter(({ pcrIndex }) => pcrIndex === 0);
      const start = new Uint8Array(32);
      start[31] = 3;
      setPcr(
        d,
        0,
        replayDigests(
          zero.map(({ digest }) => digest),
          'sha256',
          start,
        ),
      );
    },
    'image image.pcr0',
  ],
  [
    'a quoted PCR whose log does not replay',
    (d) => quoteMore(d, 7, APPLICATION),
    'event-log tpm.replay-pcr7',
  ],
  [
    'log of a PCR that is not quoted changed',
    (d) => {
      d.eventLog = d.eventLog.map((e) => (e.pcrIndex === 7 ? { ...e, digest: APPLICATION } : e));
    },
    'good UpToDate',
  ],
  [
    'log digest of 48 bytes',
    (d) => {
      d.eventLog.push({ pcrIndex: 9, digest: new Uint8Array(48) });
    },
    'malformed tpm.event-digests',
  ],
  [
    'log empty',
    (d) => {
      d.eventLog = [];
    },
    'event-log image.pcr2-events',
  ],
  ['PCR 14 zero', (d) => setPcr(d, 14, new Uint8Array(32)), 'mismatch tpm.pcr14'],
  ['PCR 14 up to boot-mr-done only', (d) => setPcr(d, 14, fromHex('11'.repeat(32))), 'mismatch tpm.pcr14'],
  [
    'PCR 14 with events in the log that do not fit',
    (d) => {
      d.eventLog.push({ pcrIndex: 14, digest: APPLICATION });
    },
    'event-log tpm.replay-pcr14',
  ],
  [
    'runtime event more, in both registers',
    (d) => {
      d.tdx.runtimeEvents.push(event('late'));
      measureGcp(d);
    },
    'good UpToDate',
  ],
  [
    'runtime event more, in RTMR3 only',
    (d) => {
      const { pcrValues } = d;
      d.tdx.runtimeEvents.push(event('late'));
      measureGcp(d);
      d.pcrValues = pcrValues;
    },
    'mismatch tpm.pcr14',
  ],
  [
    'app-id of 21 bytes',
    (d) => {
      d.tdx.runtimeEvents[1] = event('app-id', '11'.repeat(21));
      measureGcp(d);
    },
    'event-log app.info',
  ],
  [
    'boot-mr-done missing',
    (d) => {
      d.tdx.runtimeEvents = d.tdx.runtimeEvents.filter((e) => e.event !== 'boot-mr-done');
      measureGcp(d);
    },
    'event-log app.info',
  ],
];

function setDocument(d: GcpDraft, document: Uint8Array, name = 'measurement.gcp.cbor', lines = 1): void {
  const hex = (bytes: Uint8Array): string => Buffer.from(sha256(bytes)).toString('hex');
  const checksums = utf8(`${hex(document)}  ${name}\n`.repeat(lines));
  d.tdx.config.gcp_measurement = { measurement: toBase64(document), checksum_file: toBase64(checksums) };
  d.tdx.config.os_image_hash = hex(checksums);
}
const documentOf = (d: GcpDraft): Uint8Array => fromBase64(d.tdx.config.gcp_measurement.measurement);
const IMAGE: readonly GcpRow[] = [
  ['document anew', (d) => setDocument(d, documentOf(d)), 'good UpToDate'],
  [
    'document listed twice',
    (d) => setDocument(d, documentOf(d), 'measurement.gcp.cbor', 2),
    'image image.gcp-tdx',
  ],
  [
    'document under another name',
    (d) => setDocument(d, documentOf(d), 'measurement.tdx.cbor'),
    'image image.gcp-tdx',
  ],
  [
    'document of version 2',
    (d) => {
      const x = documentOf(d);
      x[9] = 2;
      setDocument(d, x);
    },
    'unsupported image.gcp-tdx',
  ],
  [
    'document of another UKI',
    (d) => {
      const x = documentOf(d);
      x[x.length - 1]! ^= 1;
      setDocument(d, x);
    },
    'image image.gcp-tdx',
  ],
  [
    'document with trailing byte',
    (d) => setDocument(d, concatBytes(documentOf(d), Uint8Array.of(0))),
    'malformed image.gcp-tdx',
  ],
  [
    'document with a member more',
    (d) => {
      const x = documentOf(d);
      x[0] = 0xa3;
      setDocument(d, concatBytes(x, fromHex('616101')));
    },
    'malformed image.gcp-tdx',
  ],
  [
    'document with a member twice',
    (d) => {
      const x = documentOf(d);
      x[0] = 0xa3;
      setDocument(d, concatBytes(x, fromHex('6776657273696f6e01')));
    },
    'malformed image.gcp-tdx',
  ],
  [
    'document changed, checksum file not',
    (d) => {
      const x = documentOf(d);
      x[x.length - 1]! ^= 1;
      d.tdx.config.gcp_measurement.measurement = toBase64(x);
    },
    'image image.gcp-tdx',
  ],
  [
    'os_image_hash of another file',
    (d) => {
      d.tdx.config.os_image_hash = '11'.repeat(32);
    },
    'image image.gcp-tdx',
  ],
  [
    'os_image_hash is the UKI digest although there is a document',
    (d) => {
      d.tdx.config.os_image_hash = '9ab14a46f858662a89adc102d2a57a13f52f75c1769d65a4c34edbbfc8855f0f';
    },
    'image image.gcp-tdx',
  ],
  [
    'v0.6 form',
    (d) => {
      d.tdx.config = {
        spec_version: 2,
        os_image_hash: '9ab14a46f858662a89adc102d2a57a13f52f75c1769d65a4c34edbbfc8855f0f',
      };
    },
    'good UpToDate',
  ],
  [
    'v0.6 form of another image',
    (d) => {
      d.tdx.config = { spec_version: 2, os_image_hash: '11'.repeat(32) };
    },
    'image image.gcp-tdx',
  ],
  [
    'document gone, its hash kept',
    (d) => {
      delete d.tdx.config.gcp_measurement;
    },
    'image image.gcp-tdx',
  ],
  [
    'no config',
    (d) => {
      d.tdx.config = '';
    },
    'image image.gcp-tdx',
  ],
  [
    'document is no object',
    (d) => {
      d.tdx.config.gcp_measurement = 'x';
    },
    'malformed image.gcp-tdx',
  ],
];

const TDX_LEG: readonly GcpRow[] = [
  ['debug TD', (d) => setTdBit(d.tdx, 'attributes', 0, true), 'debug tdx.debug'],
  ['SEPT_VE_DISABLE off', (d) => setTdBit(d.tdx, 'attributes', 28, false), 'attributes tdx.attributes'],
  [
    'quote by another key',
    (d) => {
      d.tdx.alterQuote = (q) => {
        q.fill(0, 636, 700);
        return q;
      };
    },
    'signature-invalid tdx.quote-signature',
  ],
  [
    'padding in the quote',
    (d) => {
      d.tdx.padding = new Uint8Array(70);
    },
    'good UpToDate',
  ],
  [
    'padding added after the vTPM quote',
    (d) => {
      d.extraData = sha256(Uint8Array.of(2));
      d.tdx.padding = new Uint8Array(70);
    },
    'mismatch tpm.qualifying-data',
  ],
  ['RTMR3 of other events', (d) => setTd(d.tdx, 'rtmr3', new Uint8Array(48)), 'mismatch tdx.rtmr3'],
  ['report data', (d) => setTd(d.tdx, 'reportData', new Uint8Array(64)), 'mismatch tdx.report-data'],
  [
    'log disagrees',
    (d) => {
      d.tdx.eventLog.pop();
    },
    'event-log tdx.event-log',
  ],
  ['MRSIGNERSEAM', (d) => setTd(d.tdx, 'mrSignerSeam', Uint8Array.of(1)), 'mismatch tdx.module'],
  [
    'QE debug',
    (d) => {
      d.tdx.qeReport[48]! |= 2;
    },
    'debug tdx.qe-debug',
  ],
  [
    'TCB revoked',
    (d) => {
      d.tdx.tcbInfo.tcbLevels[0].tcbStatus = 'Revoked';
    },
    'tcb tdx.tcb-status',
  ],
  [
    'TCB out of date',
    (d) => {
      d.tdx.tcbInfo.tcbLevels[0].tcbStatus = 'OutOfDate';
    },
    'good OutOfDate',
  ],
  [
    'PCK revoked',
    (d) => {
      d.tdx.certificates.pck.serial = Uint8Array.of(93);
      d.tdx.crls.pck.serials = [Uint8Array.of(93)];
    },
    'revoked tdx.pck-chain',
  ],
];

describeWithFixtures('forged GCP evidence', 'mock-evidence/expected.json', () => {
  for (const rows of [ATTEST, SIGNATURE, CHAIN, LOG, IMAGE, TDX_LEG]) forgeTable(gcpDraft, sealGcp, rows);
});
