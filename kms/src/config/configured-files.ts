import { readFileSync } from 'node:fs';
import { type RootName, rootCertificate } from '@dstack-cloud/attestation';
import { toBase64 } from '@dstack-cloud/encoding';
import { KmsError } from '../errors.ts';
import type { KmsConfig } from './kms-config.ts';

/**
 * What the files say that decide whom a KMS believes. Read once when the service starts and handed to each worker, also
 * to one that starts later: a file that was changed since then counts for all processes after a restart, for none before.
 */
export type ConfiguredFiles = {
  /** `core.attestation.root_ca`: certificates by name, DER in base64. */
  readonly rootCa: Readonly<Partial<Record<RootName, string>>>;
  /** `core.auth_api.webhook.ca_cert`: PEM. */
  readonly webhookCa?: string;
};

/** @throws KmsError `config-invalid` naming the key and the file */
export function readConfiguredFiles({ core, policy }: KmsConfig): ConfiguredFiles {
  const { root_ca: roots } = core.attestation;
  const rootCa = Object.fromEntries(
    Object.entries(roots).flatMap(([name, file]) =>
      file === undefined ? [] : [[name, toBase64(readCertificate(name, file))]],
    ),
  );
  const { ca_cert: webhookCa } = core.auth_api.webhook;
  if (policy !== 'webhook' || webhookCa === undefined) return { rootCa };
  return { rootCa, webhookCa: readAuthority(webhookCa) };
}

function readCertificate(name: string, file: string): Uint8Array {
  try {
    return rootCertificate(new Uint8Array(readFileSync(file)));
  } catch (cause) {
    throw new KmsError('config-invalid', `core.attestation.root_ca.${name}: "${file}" is no certificate`, {
      cause,
    });
  }
}

function readAuthority(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new KmsError('config-invalid', `core.auth_api.webhook.ca_cert: "${file}" cannot be read`, {
      cause,
    });
  }
}
