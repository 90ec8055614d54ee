/** A Nitro enclave without AWS: attestation documents under a test root. */
import 'reflect-metadata';
import { createHash, webcrypto } from 'node:crypto';
import type { Attestation, RuntimeEvent } from '@dstack-cloud/attestation';
import { encodeCbor, toHex } from '@dstack-cloud/encoding';
import {
  BasicConstraintsExtension,
  cryptoProvider,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';

cryptoProvider.set(webcrypto);
const P384 = { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' };
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
/** `{1: -35}`, ES384 (RFC 9053 section 2.1). */
const PROTECTED = Uint8Array.of(0xa1, 0x01, 0x38, 0x22);

export type Enclave = {
  readonly rootPem: string;
  /** Evidence of an enclave whose PCR 0 to 2 are all filled with `pcr`; 0 is debug mode. */
  attest(options: {
    pcr: number;
    reportData: Uint8Array;
    runtimeEvents: RuntimeEvent[];
    config?: string;
    nonce?: Uint8Array;
  }): Promise<Attestation>;
};

/** OS image hash of such an enclave, hex (docs/protocol/verification.md section 8). */
export function enclaveImageHash(pcr: number): string {
  return toHex(createHash('sha256').update(new Uint8Array(144).fill(pcr)).digest());
}

export async function createEnclave(): Promise<Enclave> {
  const dates = { notBefore: new Date(Date.now() - 3_600_000), notAfter: new Date(Date.now() + 3_600_000) };
  const rootKeys = await webcrypto.subtle.generateKey(P384, true, ['sign', 'verify']);
  const root = await X509CertificateGenerator.createSelfSigned({
    ...dates,
    name: 'CN=test.nitro-enclaves',
    keys: rootKeys,
    signingAlgorithm: P384,
    extensions: [
      new BasicConstraintsExtension(true, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
    ],
  });
  const leafKeys = await webcrypto.subtle.generateKey(P384, true, ['sign', 'verify']);
  const leaf = await X509CertificateGenerator.create({
    ...dates,
    subject: 'CN=i-0827e799ec9232d44-enc0',
    issuer: root.subject,
    publicKey: leafKeys.publicKey,
    signingKey: rootKeys.privateKey,
    signingAlgorithm: P384,
    extensions: [
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([CLIENT_AUTH]),
    ],
  });
  return {
    rootPem: root.toString('pem'),
    async attest({ pcr, reportData, runtimeEvents, config, nonce = null }) {
      const payload = encodeCbor(
        new Map<string, unknown>([
          ['module_id', 'i-0827e799ec9232d44-enc0'],
          ['digest', 'SHA384'],
          ['timestamp', Date.now()],
          ['pcrs', new Map([0, 1, 2].map((index) => [index, new Uint8Array(48).fill(pcr)]))],
          ['certificate', new Uint8Array(leaf.rawData)],
          ['cabundle', [new Uint8Array(root.rawData)]],
          ['public_key', null],
          ['user_data', reportData],
          ['nonce', nonce],
        ]),
      );
      const signed = encodeCbor(['Signature1', PROTECTED, new Uint8Array(), payload]);
      const signature = new Uint8Array(await webcrypto.subtle.sign(P384, leafKeys.privateKey, signed));
      return {
        quote: {
          mode: 'dstack-nitro-enclave',
          nsmQuote: encodeCbor([PROTECTED, new Map(), payload, signature]),
        },
        runtimeEvents,
        reportData,
        config: config ?? JSON.stringify({ os_image_hash: enclaveImageHash(pcr) }),
      };
    },
  };
}

/** The events of an enclave that says it is `appId`: nothing measures them. */
export function enclaveEvents(appId: Uint8Array): RuntimeEvent[] {
  return [
    { event: 'app-id', payload: appId },
    { event: 'instance-id', payload: new Uint8Array() },
  ];
}
