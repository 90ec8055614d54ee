import { randomBytes } from 'node:crypto';
import { serializeAppKeys } from '@dstack-cloud/app';
import { ratlsReportData, reportData } from '@dstack-cloud/attestation';
import { decodePem } from '@dstack-cloud/encoding';
import { appKeysFromSeed, generateP256Key, p256KeyFromPem, p256KeyPem } from '@dstack-cloud/keys';
import { certificatePem, issueCertificate, issuerOf, localRootCa, tempClient } from '@dstack-cloud/ra-tls';
import { type Command, requiredText, type Values } from '../command-line/command.ts';
import { UtilError } from '../errors.ts';
import { readNamedFile } from '../files.ts';
import { writeOutput, writeSecret } from '../write-output.ts';
import { attest } from './evidence.ts';

const TEN_YEARS = 3650 * 86_400;
const MAX_CERTIFICATE = 64 * 1024;
const CA_LEVEL: Command['options'][number] = {
  name: 'ca-level',
  value: 'CA_LEVEL',
  help: 'CA level',
  default: '1',
  isNumber: true,
};

export const genRaCert: Command = {
  name: 'gen-ra-cert',
  about: 'Generate a RA-TLS certificate',
  options: [
    file('ca-cert', 'CA certificate used to sign the RA certificate'),
    file('ca-key', 'CA private key used to sign the RA certificate'),
    { ...file('cert-path', 'file path to store the certificate'), short: 'c' },
    { ...file('key-path', 'file path to store the private key'), short: 'k' },
  ],
  async run(values) {
    const certificate = await text(values, 'ca-cert', 'Failed to read CA certificate');
    const caKey = await text(values, 'ca-key', 'Failed to read CA key');
    const issuer = readIssuer(certificate, caKey);
    const key = generateP256Key();
    const attestation = await attest(ratlsReportData(key.spki));
    const leaf = tempClient({ spki: key.spki, issuer, attestation, now: now() });
    await writePair(
      requiredText(values, 'cert-path'),
      leaf,
      requiredText(values, 'key-path'),
      p256KeyPem(key),
    );
  },
};

export const genCaCert: Command = {
  name: 'gen-ca-cert',
  about: 'Generate a CA certificate',
  options: [
    file('cert', 'path to store the certificate'),
    file('key', 'path to store the private key'),
    CA_LEVEL,
  ],
  async run(values) {
    const key = generateP256Key();
    const attestation = await attest(reportData({ tag: 'kms-root-ca', content: key.spki }));
    const certificate = issueCertificate({
      subject: { commonName: 'App Root CA' },
      spki: key.spki,
      issuer: key,
      ca: { pathLength: caLevel(values) },
      notAfter: now() + TEN_YEARS,
      attestation,
    });
    await writePair(requiredText(values, 'cert'), certificate, requiredText(values, 'key'), p256KeyPem(key));
  },
};

export const genAppKeys: Command = {
  name: 'gen-app-keys',
  about: 'Generate app keys for an dstack app',
  options: [CA_LEVEL, { ...file('output', 'path to store the app keys'), short: 'o' }],
  async run(values) {
    // The certificate says level 1, which is all that an application has below it.
    if (caLevel(values) !== 1) throw new UtilError('--ca-level of application keys is 1');
    const { appKey, ...keys } = appKeysFromSeed(new Uint8Array(randomBytes(32)));
    const attestation = await attest(ratlsReportData(appKey.spki));
    const document = serializeAppKeys({
      ...keys,
      gatewayAppId: '',
      caCert: certificatePem(localRootCa({ key: appKey, now: now(), attestation })),
      keyProvider: { kind: 'none', key: p256KeyPem(appKey) },
    });
    await writeSecret(requiredText(values, 'output'), document);
  },
};

function file(name: string, help: string): Command['options'][number] {
  return { name, value: name.toUpperCase().replaceAll('-', '_'), help, required: true };
}

function caLevel(values: Values): number {
  const level = Number(requiredText(values, 'ca-level'));
  if (level <= 8) return level;
  throw new UtilError(`--ca-level ${level} is more than 8`);
}

async function text(values: Values, name: string, message: string): Promise<string> {
  return new TextDecoder().decode(await readNamedFile(requiredText(values, name), message, MAX_CERTIFICATE));
}

function readIssuer(certificate: string, key: string): ReturnType<typeof issuerOf> {
  try {
    return issuerOf(decodePem(certificate, 'CERTIFICATE'), p256KeyFromPem(key));
  } catch (cause) {
    throw new UtilError('Failed to read the CA', cause);
  }
}

/** The key first: a certificate never stands there without it. */
async function writePair(path: string, der: Uint8Array, keyPath: string, key: string): Promise<void> {
  await writeSecret(keyPath, key);
  await writeOutput(path, certificatePem(der));
}

function now(): number {
  return Math.floor(Date.now() / 1000);
}
