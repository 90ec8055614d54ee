import { generateKeyPairSync, sign } from 'node:crypto';
import { type Attestation, encodeAttestation, ratlsReportData } from '@dstack-cloud/attestation';
import { fromHex, toHex, utf8, utf8Text } from '@dstack-cloud/encoding';
import { generateP256Key } from '@dstack-cloud/keys';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RaTlsError } from '../errors.ts';
import { appCaKey, attestationFor } from '../testing/samples.ts';
import { createCsr } from './create-csr.ts';
import { CONFIRM_WORD, type CsrConfig, decodeCsrV1, decodeCsrV2, encodeCsrV1, encodeCsrV2 } from './csr.ts';
import { signCsr, verifyCsr } from './verify-csr.ts';

const config: CsrConfig = {
  subject: 'test.example.com',
  subjectAltNames: [],
  usageServerAuth: true,
  usageClientAuth: false,
  extQuote: false,
  extAppInfo: false,
};
const tdx = (quote: string): Attestation => ({
  quote: { mode: 'dstack-tdx', quote: fromHex(quote), eventLog: [] },
  runtimeEvents: [],
  reportData: new Uint8Array(64),
  config: '',
});
const org: CsrConfig = {
  orgName: 'Org',
  subject: 'a.example',
  subjectAltNames: ['a.example', 'b.example'],
  usageServerAuth: true,
  usageClientAuth: true,
  extQuote: true,
  extAppInfo: true,
  notBefore: 1_700_000_000n,
  notAfter: 1_800_000_000n,
};

// Vectors of docs/protocol/ra-tls.md section 4.1.
const V2_SMALL = `44706c65617365207369676e20636572743a0c0102030040746573742e6578616d706c652e636f6d0001${'00'.repeat(75)}`;
const V2_FULL = `44706c65617365207369676e20636572743a0c010203010c4f726724612e6578616d706c650824612e6578616d706c6524622e6578616d706c65010101010100f15365000000000100d2496b0000000000000409${'00'.repeat(67)}`;
const V1 =
  '44706c65617365207369676e20636572743a0c010203010c4f726724612e6578616d706c650424612e6578616d706c650100010409085b5d';
const SIGNED =
  '44706c65617365207369676e20636572743a6d013059301306072a8648ce3d020106082a8648ce3d030107034200040526af58f573724a2933a2b53506caa20343e6b98573fd89e32eee820eb5958fe4797ce498fe8b86f114debf18daaf5e650ab48cec14927e95e71fac13af76970040746573742e6578616d706c652e636f6d0440746573742e6578616d706c652e636f6d010100010000000004090000f1db72d28c32437dfa545b7bd81337f4edef7e25515c2713f0a6cfcf3cd3ab54fc5cec1c1ede248cc38cf668c2ea666ad3e7d1591cc8735b39b9e1c7c4186f2a00';
const SIGNATURE =
  '3044022019a61fe70a5fc3162499288ab43f83481276e1ad29e90f40a045482eae9aed7802204ca50a28aa1bfaa4108646f3c4b5725bdd9284073b1ba50f7cef053e9ee1a8dd';

describe('signing requests', () => {
  it('format 2 vectors', () => {
    const pubkey = Uint8Array.of(1, 2, 3);
    const small = { confirm: CONFIRM_WORD, pubkey, config, attestation: tdx('') };
    expect(toHex(encodeCsrV2(small))).toBe(V2_SMALL);
    expect(V2_SMALL.length / 2).toBe(117);
    const { attestation: _, ...head } = small;
    expect(decodeCsrV2(fromHex(V2_SMALL))).toEqual({ ...head, evidence: encodeAttestation(tdx('')) });
    const full = { confirm: CONFIRM_WORD, pubkey, config: org, attestation: tdx('09') };
    expect(toHex(encodeCsrV2(full))).toBe(V2_FULL);
    expect(V2_FULL.length / 2).toBe(151);
    expect(decodeCsrV2(fromHex(V2_FULL))).toMatchObject({
      config: org,
      evidence: encodeAttestation(tdx('09')),
    });
  });

  it('format 1 vector', () => {
    const csr = decodeCsrV1(fromHex(V1));
    expect(csr.config).toEqual({
      orgName: 'Org',
      subject: 'a.example',
      subjectAltNames: ['a.example'],
      usageServerAuth: true,
      usageClientAuth: false,
      extQuote: true,
      extAppInfo: false,
    });
    expect([toHex(csr.quote), utf8Text(csr.eventLog)]).toEqual(['09', '[]']);
    expect(toHex(encodeCsrV1(csr))).toBe(V1);
  });

  it('the signed vector verifies', () => {
    const verified = verifyCsr(2, fromHex(SIGNED), fromHex(SIGNATURE));
    expect(verified.pubkey).toEqual(appCaKey.spki);
    expect(verified.config.extAppInfo).toBe(true);
    expect(verified.readEvidence().reportData).toEqual(ratlsReportData(appCaKey.spki));
  });

  it('what we make verifies', () => {
    const key = generateP256Key();
    const { csr, signature } = createCsr(key, org, attestationFor(key));
    expect(verifyCsr(2, csr, signature).config).toEqual(org);
  });

  it('any request of either format round trips', () => {
    const time = fc.option(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { nil: undefined });
    const anyConfig = fc.record(
      {
        orgName: fc.string(),
        subject: fc.string(),
        subjectAltNames: fc.array(fc.string(), { maxLength: 70 }),
        usageServerAuth: fc.boolean(),
        usageClientAuth: fc.boolean(),
        extQuote: fc.boolean(),
        extAppInfo: fc.boolean(),
        notBefore: time,
        notAfter: time,
      },
      {
        requiredKeys: [
          'subject',
          'subjectAltNames',
          'usageServerAuth',
          'usageClientAuth',
          'extQuote',
          'extAppInfo',
        ],
      },
    );
    fc.assert(
      fc.property(anyConfig, fc.uint8Array({ maxLength: 200 }), (asked, bytes) => {
        const wanted = JSON.parse(JSON.stringify(asked, (_, v) => (typeof v === 'bigint' ? `${v}` : v)));
        const csr = { confirm: CONFIRM_WORD, pubkey: bytes, config: asked as CsrConfig };
        const two = decodeCsrV2(encodeCsrV2({ ...csr, attestation: tdx(toHex(bytes)) }));
        expect(
          JSON.parse(JSON.stringify(two.config, (_, v) => (typeof v === 'bigint' ? `${v}` : v))),
        ).toEqual(wanted);
        const one = decodeCsrV1(encodeCsrV1({ ...csr, quote: bytes, eventLog: bytes }));
        expect([one.pubkey, one.quote, one.config.subject]).toEqual([bytes, bytes, asked.subject]);
      }),
    );
  });

  it('evidence that cannot be read is refused only after its holder signed it, and only when it is read', () => {
    const key = generateP256Key();
    const head = encodeCsrV2({ confirm: CONFIRM_WORD, pubkey: key.spki, config, attestation: tdx('') });
    const empty = encodeAttestation(tdx('')).length;
    // A MessagePack map of 130,000 keys: 0x8 and 0xd are not looked at.
    const keys = Buffer.concat(
      Array.from({ length: 130_000 }, (_, index) =>
        Buffer.from([0xa4, ...Buffer.from(index.toString(36).padStart(4)), 0xc0]),
      ),
    );
    const map = Buffer.from([0xdf, 0, 1, 0xfb, 0xd0]);
    const csr = new Uint8Array(Buffer.concat([head.subarray(0, head.length - empty), map, keys]));
    expect(() => verifyCsr(2, csr, signCsr(csr, appCaKey))).toThrow('Invalid signature');
    const { readEvidence } = verifyCsr(2, csr, signCsr(csr, key));
    expect(readEvidence).toThrow(/^Failed to parse csr: .*too many/);
  });

  it('one flipped bit anywhere is refused', () => {
    for (let i = 0; i < SIGNED.length / 2; i += 5) {
      const csr = fromHex(SIGNED);
      csr[i]! ^= 1 << (i % 8);
      expect(() => verifyCsr(2, csr, fromHex(SIGNATURE))).toThrow(RaTlsError);
    }
  });

  it.each<[string, number, string, string, string]>([
    ['version 0', 0, SIGNED, SIGNATURE, 'Unsupported API version: 0'],
    ['version 3', 3, SIGNED, SIGNATURE, 'Unsupported API version: 3'],
    ['empty', 2, '', SIGNATURE, 'Failed to parse csr: '],
    ['trailing byte', 2, `${SIGNED}00`, SIGNATURE, 'Failed to verify csr signature: Invalid signature'],
    ['cut short', 2, SIGNED.slice(0, -2), SIGNATURE, 'Failed to verify csr signature: Invalid signature'],
    ['cut before the evidence', 2, SIGNED.slice(0, 300), SIGNATURE, 'Failed to parse csr: '],
    [
      'a longer length prefix than needed',
      2,
      `45 01${SIGNED.slice(2)}`.replace(' ', ''),
      SIGNATURE,
      'Failed to parse csr: ',
    ],
    ['format 2 as format 1', 1, SIGNED, SIGNATURE, 'Failed to parse csr: '],
    ['no signature', 2, SIGNED, '', 'Failed to verify csr signature: Invalid signature'],
    [
      'trailing byte in the signature',
      2,
      SIGNED,
      `${SIGNATURE}00`,
      'Failed to verify csr signature: Invalid signature',
    ],
    ['no key', 2, V2_SMALL, SIGNATURE, 'Failed to verify csr signature: Failed to parse pubkey'],
  ])('%s', (_, version, csr, signature, text) => {
    expect(() => verifyCsr(version, fromHex(csr), fromHex(signature))).toThrow(text);
  });

  it('a wrong confirm word is told only to who signed', () => {
    const key = generateP256Key();
    const csr = encodeCsrV2({
      confirm: 'please sign',
      pubkey: key.spki,
      config,
      attestation: attestationFor(key),
    });
    expect(() => verifyCsr(2, csr, signCsr(csr, key))).toThrow(
      'Failed to verify csr signature: Invalid confirm word',
    );
    expect(() => verifyCsr(2, csr, signCsr(csr, appCaKey))).toThrow('Invalid signature');
  });

  it('keys of other kinds are refused', () => {
    for (const namedCurve of ['P-384', 'secp256k1']) {
      const pair = generateKeyPairSync('ec', { namedCurve });
      const pubkey = new Uint8Array(pair.publicKey.export({ format: 'der', type: 'spki' }));
      const csr = encodeCsrV2({ confirm: CONFIRM_WORD, pubkey, config, attestation: tdx('') });
      const signature = new Uint8Array(sign('sha256', csr, pair.privateKey));
      expect(() => verifyCsr(2, csr, signature)).toThrow(
        'Failed to verify csr signature: Unsupported algorithm',
      );
    }
  });

  it('format 1 with a log that is no JSON', () => {
    const key = generateP256Key();
    const csr = encodeCsrV1({
      confirm: CONFIRM_WORD,
      pubkey: key.spki,
      config,
      quote: Uint8Array.of(9),
      eventLog: utf8('x'),
    });
    expect(() => verifyCsr(1, csr, signCsr(csr, key)).readEvidence()).toThrow(
      /^Failed to upgrade csr v1 to v2: /,
    );
  });
});

interface Recorded {
  items: Array<{
    id: string;
    request: { body: { utf8?: string } };
    response: { status: string; body: { utf8?: string } };
  }>;
}

describeWithFixtures('requests that the original got', 'kms-original/full/signcert.json', () => {
  const { items } = fixtureJson<Recorded>('kms-original/full/signcert.json');
  const cases = items.flatMap(({ id, request, response }) => {
    const body = request.body.utf8?.startsWith('{"api_version"')
      ? (JSON.parse(request.body.utf8) as Record<string, string>)
      : undefined;
    if (!body || !/^[0-9a-f]*$/.test(body['csr'] ?? 'x')) return [];
    const error = response.status.includes('200')
      ? undefined
      : (JSON.parse(response.body.utf8!) as { error: string }).error;
    return [
      { id, version: Number(body['api_version']), csr: body['csr']!, signature: body['signature']!, error },
    ];
  });

  it.each(cases)('$id', ({ id, version, csr, signature, error }) => {
    const read = (): unknown => verifyCsr(version, fromHex(csr), fromHex(signature)).readEvidence();
    const stage =
      /^(Unsupported API version|Failed to parse csr|Failed to verify csr signature: [A-Za-z ]+|Failed to upgrade)/.exec(
        error ?? '',
      )?.[0];
    // A request of format 2 sent as format 1 has bytes left over: ours refuses it before the signature.
    if (id === 'v2-bytes-as-v1') expect(read).toThrow('Failed to parse csr');
    else if (stage) expect(read).toThrow(stage);
    else expect(read).not.toThrow();
  });
});
