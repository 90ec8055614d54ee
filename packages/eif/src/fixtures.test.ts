import { createHash, X509Certificate } from 'node:crypto';
import { describeWithFixtures, fixture, fixtureJson } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import { bytesSource } from './byte-source.ts';
import { describeEif } from './describe.ts';
import { osImageHash } from './measure/pcrs.ts';
import { readEif } from './measure/read-eif.ts';
import { parseMeasurements } from './measurements.ts';
import { verifyEif } from './verify.ts';

interface Expected {
  file: string;
  size: number;
  sha256: string;
  eifVersion: number;
  flags: number;
  arch: string;
  defaultMem: number;
  defaultCpus: number;
  numSections: number;
  sections: { type: number; name: string; offset: number; size: number }[];
  crc32: string;
  isSigned: boolean;
  measurements: Record<string, string>;
  osImageHash: string;
  signingCertificatePem?: string;
}
interface Expectations {
  eif: Record<string, Expected>;
  published: {
    nitroCliSampleHello: Record<'x86_64' | 'aarch64', Record<string, string>>;
    realAttestationDocuments: Record<string, string>[];
  };
}

describeWithFixtures('the enclave images of the fixtures', 'eif/expected.json', () => {
  const { eif, published } = fixtureJson<Expectations>('eif/expected.json');
  const images = Object.values(eif);

  it('has them', () => {
    expect(images.map(({ file }) => file)).toHaveLength(3);
  });

  it.each(images)('$file: every value', async (expected) => {
    const bytes = fixture(`eif/${expected.file}`);
    expect(bytes.length).toBe(expected.size);
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(expected.sha256);
    const read = await readEif(bytesSource(expected.file, bytes));
    expect(read.header).toMatchObject({
      version: expected.eifVersion,
      architecture: expected.arch,
      defaultMemory: BigInt(expected.defaultMem),
      defaultCpus: BigInt(expected.defaultCpus),
    });
    expect(read.header.architecture === 'aarch64' ? 1 : 0).toBe(expected.flags);
    expect(read.sections).toHaveLength(expected.numSections);
    expect(read.sections).toEqual(
      expected.sections.map(({ name, offset, size }) => ({ name, offset, size })),
    );
    expect(`0x${read.header.crc32.toString(16)}`).toBe(expected.crc32);
    expect(read.crc32).toBe(read.header.crc32);
    expect(`0x${osImageHash(read.pcrs)}`).toBe(expected.osImageHash);
    const description = describeEif(read);
    expect(description).toMatchObject({
      EifVersion: expected.eifVersion,
      Measurements: expected.measurements,
      IsSigned: expected.isSigned,
      CheckCRC: true,
    });
    expect(description.Measurements).toEqual(expected.measurements);
    expect(description.SignatureCheck).toBe(expected.isSigned ? true : undefined);
    if (expected.signingCertificatePem !== undefined)
      expect(Buffer.from(read.signature!.certificate.der)).toEqual(
        new X509Certificate(expected.signingCertificatePem).raw,
      );
    verifyEif(read, {
      now: new Date('2027-01-01T00:00:00Z'),
      requireSignature: expected.isSigned,
      expected: parseMeasurements(JSON.stringify({ Measurements: expected.measurements })),
    });
  });

  it('the signed one: as nitro-cli describes it', async () => {
    const read = await readEif(bytesSource('signed', fixture('eif/signed-x86_64.eif')));
    const certificate = describeEif(read).SigningCertificate;
    const { signature } = read.signature!.certificate;
    expect(certificate).toEqual({
      IssuerName: {
        commonName: 'fixture',
        countryName: 'US',
        localityName: 'Seattle',
        organizationName: 'Fixture',
        organizationalUnitName: 'eif',
        stateOrProvinceName: 'WA',
      },
      Algorithm: 'ecdsa-with-SHA384',
      NotBefore: 'Nov 22 07:27:12 2026 GMT',
      NotAfter: 'Oct 29 07:27:12 2126 GMT',
      Signature: [...signature].map((byte) => byte.toString(16).toUpperCase().padStart(2, '0')).join(':'),
    });
    expect(Object.keys(describeEif(read))).toEqual([
      'EifVersion',
      'Measurements',
      'IsSigned',
      'SigningCertificate',
      'CheckCRC',
      'SignatureCheck',
      'ImageName',
      'ImageVersion',
      'Metadata',
    ]);
    expect(describeEif(read).Metadata).toEqual({
      BuildTime: '2026-01-01T00:00:00+00:00',
      BuildTool: 'fixture',
      BuildToolVersion: '1.0.0',
      OperatingSystem: 'Linux',
      KernelVersion: '4.14.256',
      DockerInfo: null,
    });
  });

  const documents = [
    published.nitroCliSampleHello.x86_64,
    published.nitroCliSampleHello.aarch64,
    ...published.realAttestationDocuments,
  ];
  it.each(documents)('the published registers $PCR0 give the hash on chain', (published) => {
    const bytes = (name: string) => new Uint8Array(Buffer.from(published[name]!, 'hex'));
    const pcrs = { pcr0: bytes('PCR0'), pcr1: bytes('PCR1'), pcr2: bytes('PCR2') };
    expect(`0x${osImageHash(pcrs)}`).toBe(published['osImageHash']);
  });
});
