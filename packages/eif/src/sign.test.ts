import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeCbor, toHex } from '@dstack-cloud/encoding';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { bytesSource, openSource } from './byte-source.ts';
import { describeEif } from './describe.ts';
import { EifError } from './errors.ts';
import { signerPcr } from './measure/pcrs.ts';
import { readEif } from './measure/read-eif.ts';
import { commandSigner } from './sign/command-signer.ts';
import { makeSignature } from './sign/make-signature.ts';
import { signEif } from './sign/sign-eif.ts';
import { type EifSigner, keySigner } from './sign/signer.ts';
import { assembleEif, PLAIN } from './test/assemble-eif.ts';
import { signingKey } from './test/signing-key.ts';
import { type VerifyEifOptions, verifyEif } from './verify.ts';

const NOW = new Date('2026-11-30T12:00:00Z');
const key = signingKey();
const other = signingKey();

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'eif-sign-'));
  writeFileSync(join(folder, 'app.eif'), assembleEif(PLAIN));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function signed(signer: EifSigner, now = NOW): Promise<Uint8Array> {
  const file = join(folder, 'app.eif');
  const source = await openSource(file);
  try {
    await signEif(source, await readEif(source), { signer, now, output: file });
  } finally {
    await source.close();
  }
  return new Uint8Array(readFileSync(file));
}

const read = (bytes: Uint8Array) => readEif(bytesSource('image', bytes));
const verified = async (bytes: Uint8Array, options: Partial<VerifyEifOptions> = {}) =>
  verifyEif(await read(bytes), { now: NOW, requireSignature: true, ...options });

it.each(['P-256', 'P-384', 'P-521'] as const)('signs with a key file, %s', async (curve) => {
  const own = signingKey({ curve });
  const image = await signed(keySigner(own.certificate, own.privateKey));
  await verified(image, { certificate: own.certificate });
  const eif = await read(image);
  expect(describeEif(eif)).toMatchObject({ IsSigned: true, SignatureCheck: true, CheckCRC: true });
  expect(eif.signature?.curve.name).toBe(curve);
  expect(toHex(eif.pcr8!)).toBe(toHex(signerPcr(eif.signature!.certificate.der)));
  expect(eif.pcrs).toEqual((await read(assembleEif(PLAIN))).pcrs);
  expect(readdirSync(folder)).toEqual(['app.eif']);
});

it('writes the protected header and the payload as nitro-cli does', async () => {
  const image = Buffer.from(await signed(keySigner(key.certificate, key.privateKey)));
  const section = image.subarray(image.lastIndexOf(Buffer.from([0x81, 0xa2, 0x73])));
  expect(section.subarray(0, 22).toString('hex')).toBe(
    `81a273${Buffer.from('signing_certificate').toString('hex')}`,
  );
  const list = (bytes: Uint8Array) => Buffer.from(encodeCbor([...bytes])).subarray(2);
  expect(section.includes(list(Buffer.from('a1013822', 'hex')))).toBe(true);
  const payload = Buffer.concat([
    Buffer.from([0xa2, 0x6e]),
    Buffer.from('register_index'),
    Buffer.from([0x00, 0x6e]),
    Buffer.from('register_value'),
    Buffer.from([0x98, 48]),
  ]);
  // Each number of the payload is a number of the list that the COSE_Sign1 is written as.
  const numbers = Buffer.concat([...payload].map((byte) => Buffer.from(byte < 24 ? [byte] : [0x18, byte])));
  expect(section.includes(numbers)).toBe(true);
});

it('replaces an earlier signature', async () => {
  const before = await signed(keySigner(other.certificate, other.privateKey));
  const image = await signed(keySigner(key.certificate, key.privateKey));
  expect((await read(image)).sections.map(({ name }) => name)).toEqual([
    'kernel',
    'cmdline',
    'ramdisk',
    'ramdisk',
    'signature',
  ]);
  await verified(image, { certificate: key.certificate });
  expect((await read(before)).pcr8).not.toEqual((await read(image)).pcr8);
});

describe('refuses', () => {
  const signature = async (
    signer = keySigner(key.certificate, key.privateKey),
    pcr0?: Uint8Array,
    now = NOW,
  ) => makeSignature(signer, pcr0 ?? (await read(assembleEif(PLAIN))).pcrs.pcr0, now);
  const withSignature = (payload: Uint8Array) => assembleEif([...PLAIN, { type: 4, payload }]);
  const image = async () => withSignature(await signature());

  it.each<[string, () => Promise<unknown>, string, RegExp]>([
    [
      'an image that must be signed and is not',
      () => verified(assembleEif(PLAIN)),
      'not-signed',
      /is not signed/,
    ],
    [
      'the signature of another image',
      async () => verified(withSignature(await signature(undefined, new Uint8Array(48).fill(1)))),
      'signature-invalid',
      /for an image with another PCR 0/,
    ],
    [
      'another certificate than the one that must have signed',
      async () => verified(await image(), { certificate: other.certificate }),
      'certificate-invalid',
      /signed with another certificate/,
    ],
    [
      'an expired certificate',
      async () => verified(await image(), { now: new Date('2061-01-01') }),
      'certificate-invalid',
      /certificate has expired/,
    ],
    [
      'a certificate of the future',
      async () => verified(await image(), { now: new Date('2025-01-01') }),
      'certificate-invalid',
      /not valid yet/,
    ],
    [
      'a changed signature',
      async () => {
        const bytes = Buffer.from(await signature());
        // The last number of the list: the end of s.
        bytes[bytes.length - 1]! ^= 1;
        return verified(withSignature(new Uint8Array(bytes)));
      },
      'signature-invalid',
      /not one of the signing certificate/,
    ],
    [
      'another register than expected',
      async () => verified(await image(), { expected: { PCR2: '00'.repeat(48) } }),
      'measurement-differs',
      /PCR2 of the enclave image is not the one expected/,
    ],
    [
      'two signatures',
      async () => {
        const bytes = Buffer.from(await signature());
        const twice = Buffer.concat([Buffer.from([0x82]), bytes.subarray(1), bytes.subarray(1)]);
        return verified(withSignature(new Uint8Array(twice)));
      },
      'unsupported',
      /more than one signature/,
    ],
    [
      'to sign with an expired certificate',
      () => signed(keySigner(key.certificate, key.privateKey), new Date('2061-01-01')),
      'certificate-invalid',
      /certificate has expired/,
    ],
    [
      'the key of another certificate',
      async () => keySigner(key.certificate, other.privateKey),
      'bad-argument',
      /not the one of the signing certificate/,
    ],
    [
      'a key that is none',
      async () => keySigner(key.certificate, key.certificate),
      'bad-argument',
      /private key cannot be read/,
    ],
    [
      'a certificate that is none',
      async () => keySigner(key.privateKey, key.privateKey),
      'certificate-invalid',
      /certificate cannot be read/,
    ],
    [
      'a signer that signs with another key',
      () => signed({ ...keySigner(other.certificate, other.privateKey), certificate: key.certificate }),
      'signer-failed',
      /signature that its certificate does not fit/,
    ],
    [
      'a signer that gives rubbish',
      () => signed({ certificate: key.certificate, sign: async () => new Uint8Array(7) }),
      'signer-failed',
      /no ECDSA signature/,
    ],
    [
      'a command that fails',
      () => signed(commandSigner(key.certificate, 'echo the token is locked >&2; exit 3')),
      'signer-failed',
      /signing command failed: the token is locked/,
    ],
    [
      'a command that does not end',
      () => signed(commandSigner(key.certificate, 'sleep 600', 200)),
      'signer-failed',
      /signing command failed/,
    ],
    [
      'a command that prints for ever',
      () => signed(commandSigner(key.certificate, 'yes')),
      'signer-failed',
      /failed/,
    ],
    [
      'to sign a damaged image',
      () => {
        const bytes = Buffer.from(assembleEif(PLAIN));
        bytes[bytes.length - 1]! ^= 1;
        writeFileSync(join(folder, 'app.eif'), bytes);
        return signed(keySigner(key.certificate, key.privateKey));
      },
      'crc-differs',
      /damaged enclave image is not signed/,
    ],
    [
      'to sign an image of version 2',
      () => {
        writeFileSync(join(folder, 'app.eif'), assembleEif(PLAIN, { version: 2 }));
        return signed(keySigner(key.certificate, key.privateKey));
      },
      'unsupported',
      /version 2 have no signature/,
    ],
  ])('%s', async (_name, run, code, message) => {
    const before = readFileSync(join(folder, 'app.eif'));
    const error = await run().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(EifError);
    expect(error).toMatchObject({ code });
    expect((error as EifError).message).toMatch(message);
    expect(readdirSync(folder)).toEqual(['app.eif']);
    if (code === 'signer-failed') expect(readFileSync(join(folder, 'app.eif')).equals(before)).toBe(true);
  });
});

describeWithPrograms('with openssl', ['openssl'], () => {
  it.each(['', ' | base64 -w0'])('a command signs: openssl dgst%s', async (tail) => {
    const file = join(folder, 'key.pem');
    writeFileSync(file, key.privateKey);
    const command = `openssl dgst -sha384 -sign ${file}${tail}`;
    await verified(await signed(commandSigner(key.certificate, command)), { certificate: key.certificate });
  });
});
