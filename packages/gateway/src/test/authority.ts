// A KMS's root, as far as a gateway sees it; nothing outside of tests imports it.
import { createHash } from 'node:crypto';
import { fromHex } from '@dstack-cloud/encoding';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { type AppInfo, certificatePem, issueCertificate, issuerOf, rootCa } from '@dstack-cloud/ra-tls';
import { APP, instance } from './lab.ts';

const NOW = Math.floor(Date.now() / 1000);

/** A KMS's root, and clients with what it says about them. */
export type Authority = {
  readonly pem: string;
  /** A client that the KMS says this about; nothing for undefined. */
  client(info: Partial<AppInfo> | undefined): {
    readonly cert: string;
    readonly key: string;
    readonly rejectUnauthorized: false;
  };
};

export function authority(compose: string): Authority {
  const key = generateP256Key();
  const der = rootCa({ key, now: NOW });
  const issuer = issuerOf(der, key);
  const all: AppInfo = {
    appId: fromHex(APP),
    instanceId: fromHex(instance(1).instanceId),
    composeHash: new Uint8Array(createHash('sha256').update(compose).digest()),
    deviceId: new Uint8Array(32),
    mrSystem: new Uint8Array(32),
    mrAggregated: new Uint8Array(32),
    osImageHash: new Uint8Array(32).fill(4),
    keyProviderInfo: new Uint8Array(),
  };
  return {
    pem: certificatePem(der),
    client: (info: Partial<AppInfo> | undefined) => {
      const own = generateP256Key();
      const leaf = issueCertificate({
        subject: { commonName: 'dstack-guest-agent' },
        spki: own.spki,
        issuer,
        notAfter: NOW + 3600,
        clientAuth: true,
        ...(info && { appInfo: { ...all, ...info } }),
      });
      return { cert: certificatePem(leaf), key: p256KeyPem(own), rejectUnauthorized: false };
    },
  };
}
